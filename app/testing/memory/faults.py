"""What may go wrong between a client and an in-memory broker.

Invariant: a fault comes before a call has its effect or after it, never in between: a broker does a thing or does not.
"""

from __future__ import annotations

from confluent_kafka import KafkaError


class Faults:
    """Nothing goes wrong; override a method to let it.

    class SlowCommits(Faults):
        def before(self, call, client):
            if call == "commit_transaction":
                time.sleep(0.2)

    broker = MemoryBroker(faults=SlowCommits())
    """

    def before(self, call: str, client: object) -> None:
        """Called before a call reaches the broker; what it raises is raised by the call, without effect.

        Args:
            call: name of the client's method: `poll`, `committed`, `init_transactions`, `commit_transaction`, …
            client: the consumer or producer.
        """

    def after(self, call: str, client: object) -> None:
        """Called when a call had its effect; what it raises is raised by the call: its answer was lost."""

    def refuses(self, topic: str, client: object) -> KafkaError | None:
        """Called for each record that reaches its topic: what its delivery report says; None lets it be written.

        Args:
            topic: where it was sent.
            client: the producer.
        """
        return None

    def silent_since(self, client: object) -> float | None:
        """Since when a client is not heard of any more (it was killed, stopped or cut off), on the broker's clock;
        None while it is heard of. The group drops a member that is silent for longer than the session timeout.
        """
        return None
