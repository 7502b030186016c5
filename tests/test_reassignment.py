"""Which brokers get a copy when a queue is to have more of them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fairlane.topics.reassignment import reassignment


def test_copies_are_added_to_the_brokers_that_have_the_fewest() -> None:
    replicas = {"shop.p5": {0: [1], 1: [2]}, "shop.p4": {0: [1, 2, 3]}}
    assert reassignment(replicas, [1, 2, 3], 2) == {
        "version": 1,
        "partitions": [
            {"topic": "shop.p5", "partition": 0, "replicas": [1, 3]},
            {"topic": "shop.p5", "partition": 1, "replicas": [2, 1]},
        ],
    }


@given(leaders=st.lists(st.integers(1, 5), min_size=1, max_size=40), replication=st.integers(1, 5))
def test_every_partition_gets_its_copies_no_leader_moves_and_the_load_stays_even(
    leaders: list[int], replication: int
) -> None:
    brokers = [1, 2, 3, 4, 5]
    replicas = {"shop.p5": {number: [leader] for number, leader in enumerate(leaders)}}
    plan = reassignment(replicas, brokers, replication)
    after = {entry["partition"]: entry["replicas"] for entry in plan["partitions"]}
    assert set(after) == (set(range(len(leaders))) if replication > 1 else set())
    for partition, copies in after.items():
        assert copies[0] == leaders[partition]
        assert len(set(copies)) == len(copies) == replication
    before = Counter(leaders)
    load = Counter(copy for copies in after.values() for copy in copies)
    if after and max(before.values()) <= len(leaders) / 5 + 1:
        assert max(load.values()) - min(load[broker] for broker in brokers) <= 2
