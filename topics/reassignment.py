"""Which brokers should have a copy of what, so that every topic of a queue has the copies that it declares.

Invariant: a copy stays where it is and no leader moves; copies are only added, to the brokers that have the fewest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def reassignment(
    replicas: Mapping[str, Mapping[int, Sequence[int]]], brokers: Sequence[int], replication: int
) -> dict[str, Any]:
    """The plan that kafka-reassign-partitions.sh takes; empty if nothing has to move.

    Args:
        replicas: the brokers that have a copy, the leader first, by topic and partition.
        brokers: every broker of the cluster; at least `replication`.
        replication: how many copies there should be.
    """
    load = Counter(broker for partitions in replicas.values() for copies in partitions.values() for broker in copies)
    planned = []
    for topic, partitions in sorted(replicas.items()):
        for partition, copies in sorted(partitions.items()):
            if len(copies) >= replication:
                continue
            others = sorted(set(brokers) - set(copies), key=lambda broker: (load[broker], broker))
            added = others[: replication - len(copies)]
            load.update(added)
            planned.append({"topic": topic, "partition": partition, "replicas": [*copies, *added]})
    return {"version": 1, "partitions": planned}
