"""A deterministic simulation: fairlane's reader, feed, settler and transactions, on virtual time and a Kafka in memory.

make simulate SEEDS=1000            # many worlds, each from a seed
make simulate SEED=17               # one of them again, exactly
"""
