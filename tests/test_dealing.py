"""Dealing tasks over partitions: evenly for every topic, in runs, and never against a key."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from fairlane.producer.dealing import BY_LIBRDKAFKA, LONGEST_RUN, deal
from fairlane.topics.task import Task

PARTITIONS = {"shop.p1": (0, 1, 2), "shop.p3": tuple(range(12)), "shop.p5": (4, 7), "unknown": ()}


def a_task(key: bytes | None = None) -> Task:
    return Task(id="1", type="t", payload=b"", key=key)


@given(st.lists(st.tuples(st.sampled_from(sorted(PARTITIONS)), st.sampled_from([None, None, b"k"])), min_size=2))
def test_each_topic_has_its_tasks_evenly_on_its_partitions_and_a_key_decides_for_itself(
    sent: list[tuple[str, bytes | None]],
) -> None:
    dealt = deal([a_task(key) for _, key in sent], [topic for topic, _ in sent], PARTITIONS)
    for topic, partitions in PARTITIONS.items():
        got = [place for (at, key), place in zip(sent, dealt, strict=True) if at == topic and key is None]
        assert set(got) <= set(partitions or (BY_LIBRDKAFKA,))
        if partitions and got:
            counts = [Counter(got)[partition] for partition in partitions]
            assert max(counts) - min(counts) <= 1
    assert all(place == BY_LIBRDKAFKA for (_, key), place in zip(sent, dealt, strict=True) if key is not None)


def test_what_is_on_one_partition_is_a_run_and_no_run_is_so_long_that_the_others_wait() -> None:
    few = deal([a_task()] * 1_200, ["shop.p3"] * 1_200, PARTITIONS)
    assert [len(list(run)) for _, run in groupby(few)] == [100] * 12
    many = deal([a_task()] * 30_000, ["shop.p3"] * 30_000, PARTITIONS)
    assert [len(list(run)) for _, run in groupby(many)] == [LONGEST_RUN] * 60


def test_one_task_goes_anywhere() -> None:
    assert deal([a_task()], ["shop.p3"], PARTITIONS) == [BY_LIBRDKAFKA]


def test_the_first_partition_is_another_one_every_time() -> None:
    assert len({deal([a_task()] * 2, ["shop.p3"] * 2, PARTITIONS)[0] for _ in range(100)}) > 1
