"""Chaos on a real Kafka: three brokers, several workers and producers, and a storm drawn from a seed.

make chaos MINUTES=10               # a storm of ten minutes
make chaos MINUTES=10 SEED=17       # the same faults in the same order again, as far as real time lets them
"""
