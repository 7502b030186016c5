"""The contract of a queue: names, topology, wire format, task and event records; every other package imports it."""
