"""Taking tasks one by one: what is open is a record, and what an acknowledgement says is what Kafka has."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from working_queue import WorkingQueue, working_queue

from fairlane.consumer.pull import Pull
from fairlane.consumer.retry import RetryPolicy
from fairlane.topics.errors import TaskFailed, UsageError
from fairlane.topics.task import Task

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka) as queue:
        yield queue


@pytest.fixture(scope="module")
def pull(queue: WorkingQueue) -> Iterator[Pull]:
    pull = Pull(queue.config(concurrency=4, result_max_bytes=10_000_000), RetryPolicy(max_attempts=1))
    try:
        yield pull
    finally:
        pull.close()


def taken(pull: Pull) -> Task:
    task = pull.dequeue(30)
    assert task is not None
    return task


def test_two_tasks_with_one_id_are_both_acknowledged(queue: WorkingQueue, pull: Pull) -> None:
    queue.send(*[queue.task("email", task_id="twice") for _ in range(2)])
    origins = {str(taken(pull).origin) for _ in range(2)}
    assert len(origins) == pull.open == 2
    pull.ack("twice", "one")
    assert pull.open == 1
    pull.nack("twice", error="two")
    assert pull.open == 0
    with pytest.raises(UsageError, match="not open"):
        pull.ack("twice")
    ended = queue.wait_ended(2)
    assert {origin for origin, found in ended.items() if found[0].id == "twice"} == origins
    assert {event.state for event in queue.events("twice")} == {"completed", "failed"}


def test_an_expired_task_is_settled_as_that_and_handed_to_nobody(queue: WorkingQueue, pull: Pull) -> None:
    late = queue.task("email", level=5, expires_ms=time.time_ns() // 1_000_000 - 5)
    good = queue.task("email", level=1)
    queue.send(late, good)
    assert taken(pull).id == good.id
    pull.ack(good.id)
    assert queue.wait_event(late, "expired").reason == "expired"
    assert pull.dequeue(0) is None


def test_a_result_that_kafka_refuses_is_no_success(queue: WorkingQueue, pull: Pull) -> None:
    queue.send(queue.task("email"))
    task = taken(pull)
    with pytest.raises(TaskFailed, match="result_too_large") as raised:
        pull.ack(task.id, "x" * 3_000_000)
    assert (raised.value.task_id, raised.value.reason) == (task.id, "result_too_large")
    assert queue.wait_event(task, "failed").reason == "result_too_large"
    assert pull.open == 0


def test_a_result_over_the_limit_leaves_the_task_open(queue: WorkingQueue, pull: Pull) -> None:
    queue.send(queue.task("email"))
    task = taken(pull)
    with pytest.raises(UsageError, match="result_max_bytes"):
        pull.ack(task.id, "x" * 10_000_000)
    pull.ack(task.id, {"at": "elsewhere"})
    assert bytes(queue.wait_event(task, "completed").result) == b'{"at":"elsewhere"}'
