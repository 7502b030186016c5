"""One bad task on a real Kafka: its own outcome pays for it, and everything else is settled meanwhile.

Each of these once stopped a whole queue: the settlement it was in was refused, and made again, for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from live_queue import records, wait_until
from working_queue import WorkingQueue, working_queue

from fairlane.consumer import takeover
from fairlane.consumer.context import context
from fairlane.consumer.outcome import OutboxRecord
from fairlane.consumer.pool import WorkerPool
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.transaction import transactional_properties
from fairlane.topics.events import StatusEvent
from fairlane.topics.names import Lane, Tier

pytestmark = pytest.mark.kafka

NEVER_AGAIN = RetryPolicy(max_attempts=1)


@pytest.fixture(scope="module")
def shared(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka) as queue:
        yield queue


async def nothing() -> None: ...


def dead(queue: WorkingQueue, task: Any) -> StatusEvent:
    """The event that the task is dead."""
    return queue.wait_event(task, "failed")


def test_a_reply_to_a_partition_that_does_not_exist_is_not_sent(shared: WorkingQueue) -> None:
    asking = shared.task("nothing", reply_to=f"{shared.names.replies}:99999")
    other = shared.task("nothing")
    shared.send(asking, other)
    with shared.worker(nothing):
        shared.wait_event(other, "completed")
        shared.wait_event(asking, "completed")


def test_an_outbox_record_that_kafka_refuses_costs_its_own_task_only(shared: WorkingQueue) -> None:
    async def send_wrong(kind: str) -> None:
        match kind:
            case "missing":
                context().emit("t-no-such-topic", b"x")
            case "large":
                context().emit(shared.names.audit, b"x" * 2_000_000)
            case "keyless":
                context().emit(shared.names.workers, b"x")  # compacted: every record needs a key
            case "typed":
                # Past the checks of `emit`, as a bug of ours might do.
                bad: Any = (("a", 5),)
                context()._outbox.append(OutboxRecord(shared.names.audit, b"x", None, bad))

    kinds = ("missing", "large", "keyless", "typed")
    wrong = {kind: shared.task("send_wrong", b'{"kind":"%s"}' % kind.encode()) for kind in kinds}
    other = shared.task("nothing")
    shared.send(*wrong.values(), other)
    with shared.worker(nothing, send_wrong):
        shared.wait_event(other, "completed")
        for kind, task in wrong.items():
            assert dead(shared, task).reason == "outbox_failed", kind


def test_a_task_that_is_too_large_for_its_tier_is_dead_and_not_tried_for_ever(kafka: str) -> None:
    """Tiers are made to take more than lanes; an operator may have said something else."""
    with working_queue(kafka) as queue:
        tier = ConfigResource(ResourceType.TOPIC, queue.names.tier(Tier.parse("10m")))
        tier.add_incremental_config(
            ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET)
        )
        admin = AdminClient(queue.connection.admin())
        later_ms = int(time.time() * 1000) + 900_000
        large = queue.task("nothing", b'"' + b"x" * 3_000 + b'"', not_before_ms=later_ms)
        other = queue.task("nothing")
        with queue.worker(nothing):
            # A worker does not start on such a queue; one that runs is not asked.
            admin.incremental_alter_configs([tier])[tier].result(60)
            queue.send(large, other, topic=queue.names.lane(3))
            queue.wait_event(other, "completed")
            assert dead(queue, large).reason == "fatal"


def test_a_result_that_is_no_json_is_retried_and_then_dead(shared: WorkingQueue) -> None:
    async def unspeakable() -> Any:
        return object()

    task = shared.task("unspeakable")
    shared.send(task)
    with shared.worker(unspeakable, policies={"unspeakable": {"retry": NEVER_AGAIN}}):
        event = dead(shared, task)
    assert event.error is not None
    assert (event.reason, event.error.type) == ("max_attempts", "InvalidResult")


def test_nothing_is_written_to_a_topic_of_somebody_elses_that_is_a_lane(kafka: str) -> None:
    starts = 0

    async def bill() -> None:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise OSError

    at_once = RetryPolicy(max_attempts=2, base_s=0, jitter=0)
    with working_queue(kafka) as queue:
        foreign = f"{queue.names.queue}-orders"
        admin = AdminClient(queue.connection.admin())
        admin.create_topics([NewTopic(foreign, 1, 1)])[foreign].result(60)
        queue.lanes = (Lane(foreign, 3, 1, default_type="bill"),)
        queue.send_raw(foreign, b"{}")
        queue.flush()
        with queue.worker(bill, policies={"bill": {"retry": at_once}}):
            queue.wait_ended(1)
        assert starts == 2
        assert len(records(kafka, foreign)) == 1
        admin.delete_topics([foreign])[foreign].result(60)


def test_a_worker_whose_producer_is_taken_away_settles_everything_once_and_counts_no_death(kafka: str) -> None:
    """Fenced again and again while it works: what was unsettled is run again, and nothing is a suspect of anything."""

    async def work() -> None:
        await asyncio.sleep(0.01)

    with working_queue(kafka) as queue:
        tasks = [queue.task("work", payload=b"{}") for _ in range(600)]
        queue.send(*tasks)
        config = queue.config(worker="fenced", concurrency=4)
        with queue.worker(work, worker="fenced", concurrency=4, start=config.start):
            for count in (50, 150, 250, 350, 450):
                queue.wait_ended(count)
                properties = transactional_properties(queue.connection, config.transactional_id_prefix)
                Producer(properties).init_transactions(10)
            ended = queue.wait_ended(600)
        assert {len(found) for found in ended.values()} == {1}
        assert {found[0].state for found in ended.values()} == {"completed"}
        assert queue.letters() == []


def test_a_handler_that_holds_up_the_event_loop_is_not_taken_for_dead(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker's transactions would be ended, the task run again, and so on without end."""
    monkeypatch.setattr(takeover, "SILENT_MS", 1_500)
    starts: list[str] = []

    async def block() -> None:
        starts.append(context().task.id)
        time.sleep(2)  # noqa: ASYNC251

    def held(pool: WorkerPool) -> int:
        assert pool._worker is not None
        return len(pool._worker._engine.reader.held)

    with working_queue(kafka, partitions=2) as queue:
        tasks = [queue.task("block") for _ in range(6)]
        with (
            queue.worker(block, worker="aa", concurrency=1) as first,
            queue.worker(block, worker="zz", concurrency=1) as second,
        ):
            wait_until(lambda: held(first) == held(second) == 11, "both hold a partition of each lane and tier")
            queue.send(*tasks)
            queue.wait_ended(6)
        assert sorted(starts) == sorted(task.id for task in tasks), "each once"
