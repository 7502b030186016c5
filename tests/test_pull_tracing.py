"""Tasks that a program takes one by one have the same trace as those that a worker runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from span_recorder import Recorder, as_text, error_type, install
from working_queue import WorkingQueue, working_queue

import fairlane
from fairlane.consumer.retry import RetryPolicy
from fairlane.topics.task import Task

pytestmark = pytest.mark.kafka


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return install(monkeypatch, Recorder())


@pytest.fixture(scope="module")
def made(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka) as queue:
        yield queue


@pytest.fixture
def queue(made: WorkingQueue) -> Iterator[fairlane.Queue]:
    settings = fairlane.Settings(queue_url=f"kafka://{made.bootstrap}")
    with fairlane.Queue(made.names.queue, settings=settings, retry=RetryPolicy(max_attempts=1)) as queue:
        yield queue


def taken(queue: fairlane.Queue) -> Task:
    queue.enqueue(queue.task("email"))
    task = queue.dequeue(timeout_s=20)
    assert task is not None
    return task


def test_a_task_has_a_span_from_dequeue_to_ack_and_its_commit(queue: fairlane.Queue, sdk: Recorder) -> None:
    task = taken(queue)
    assert sdk.spans("process") == []
    queue.ack(task.id)
    sent, attempt, commit = sdk.one("send"), sdk.one("process"), sdk.one("commit")
    assert as_text(attempt.parent) == as_text(sent.context) == task.traceparent
    assert error_type(attempt) is None
    assert [as_text(link.context) for link in commit.links] == [as_text(attempt.context)]


def test_a_task_that_is_given_back_has_failed_of_what_was_said(queue: fairlane.Queue, sdk: Recorder) -> None:
    queue.nack(taken(queue).id, error="no such address")
    attempt = sdk.one("process")
    assert (error_type(attempt), attempt.status.description) == ("Nacked", "no such address")


def test_a_task_that_is_still_open_at_the_end_was_handed_back(queue: fairlane.Queue, sdk: Recorder) -> None:
    task = taken(queue)
    queue.close()
    attempt = sdk.one("process")
    assert (error_type(attempt), [event.name for event in attempt.events]) == (None, ["handed back"])
    assert (attempt.attributes or {})["messaging.message.id"] == task.id
