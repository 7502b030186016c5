"""A Kafka that is not as it should be: nothing acknowledged is lost, the worker says what is wrong, and goes on by
itself when it is mended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from live_queue import records, wait_until
from working_queue import WorkingQueue, working_queue

from fairlane.consumer.context import context
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.signals import RetryLater
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.events import TERMINAL, decode_status
from fairlane.topics.names import DEFAULT_TIERS
from fairlane.topics.topology import Topology

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

COUNT = 20


async def work(how: str) -> str:
    if how == "dead":
        raise ValueError("no good")
    if how == "later" and context().attempt == 1:
        raise RetryLater(5.0, "not yet")
    return how


def ends(queue: WorkingQueue) -> Counter[str]:
    """How many tasks came to an end, and how many have more than one: read anew, since the topic may be a new one."""
    origins: dict[bytes, list[str]] = {}
    for record in records(queue.bootstrap, queue.names.status):
        event = decode_status(record.value() or b"")
        if event is not None and event.state in TERMINAL:
            found: list[tuple[str, bytes]] = record.headers() or []  # type: ignore[assignment]
            origins.setdefault(dict(found)["fairlane-origin"], []).append(event.state)
    return Counter("twice" if len(states) > 1 else states[0] for states in origins.values())


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=2) as queue:
        yield queue


@contextmanager
def worker_without(queue: WorkingQueue, topic: str, how: str, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A worker that settles nothing for want of a topic, says so, and has the topic back."""
    policy = RetryPolicy(max_attempts=1 if how == "dead" else 3)
    with queue.worker(work, policies={"work": {"retry": policy}}):
        admin = AdminClient({"bootstrap.servers": queue.bootstrap})
        admin.delete_topics([topic])[topic].result(30)
        queue.send(*[queue.task("work", b'{"how":"%s"}' % how.encode()) for _ in range(COUNT)])
        wait_until(lambda: f"Kafka refuses topic {topic}" in caplog.text, "what is wrong in the log", timeout_s=60)
        assert "`fairlane topics check" in caplog.text
        TopicAdmin(queue.connection, timeout_s=60).create(Topology.of(queue.names, partitions=2))
        yield


@pytest.mark.parametrize(("missing", "how", "state"), [("dlq", "dead", "failed"), ("status", "done", "completed")])
def test_a_topic_that_is_missing_is_named_and_when_it_is_back_all_are_settled_once(
    queue: WorkingQueue, missing: str, how: str, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    with worker_without(queue, getattr(queue.names, missing), how, caplog):
        wait_until(lambda: ends(queue) == {state: COUNT}, "all to end, once each", timeout_s=90)
    assert len(queue.letters()) == (COUNT if how == "dead" else 0)


def test_a_tier_that_is_missing_is_named_and_what_waits_for_it_is_written_when_it_is_back(
    queue: WorkingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker writes to the new topic; the one that reads it has to subscribe to it, which the next start does."""
    tier = queue.names.tier(DEFAULT_TIERS[1])
    with worker_without(queue, tier, "later", caplog):
        wait_until(lambda: len(records(queue.bootstrap, tier)) == COUNT, "all to wait there", timeout_s=90)
    with queue.worker(work):
        wait_until(lambda: ends(queue) == {"completed": COUNT}, "all to end, once each", timeout_s=90)


def test_records_that_retention_removed_before_they_were_read_are_passed_over_and_the_rest_runs(
    kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    with working_queue(kafka, partitions=1) as queue:
        lane = queue.names.lane(3)
        queue.send(queue.task("work", b'{"how":"done"}'))
        with queue.worker(work):
            queue.wait_ended(1)
            wait_until(lambda: not queue.lag(), "lag 0")
        queue.send(*[queue.task("work", b'{"how":"done"}') for _ in range(COUNT)])
        # What an operator's retention does: 10 of those that nobody has read yet are gone.
        admin = AdminClient({"bootstrap.servers": kafka})
        (removed,) = admin.delete_records([TopicPartition(lane, 0, 11)]).values()
        removed.result(30)
        began = time.monotonic()
        with queue.worker(work):
            ended = queue.wait_ended(1 + COUNT - 10)
            wait_until(lambda: not queue.lag(), "lag 0")
        assert {len(found) for found in ended.values()} == {1}
        assert time.monotonic() - began < 60
        assert f"{lane}/0 begins at 11, after the committed offset" in caplog.text
