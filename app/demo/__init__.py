"""The demo: a shop's tasks on a real Kafka, run, failed, retried, dead and succeeded, and what came of it.

Invariant: it leaves nothing running and nothing on the disk but Kafka's jars, unless `keep` asks for it, and it is
content only if every task that was enqueued has ended exactly once.
"""
