"""Enqueueing while a broker stands still or is gone: what may be there is uncertain, what cannot be is said to be not.

Each test has the broker of its own module frozen with SIGSTOP, so that connections stay up and nothing answers, or
killed, so that they break.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_queue import a_task, live_queue, parcel, wait_until

from fairlane.kafka import EmbeddedKafka
from fairlane.producer import TaskProducer
from fairlane.topics.connection import Connection
from fairlane.topics.errors import (
    BufferFull,
    EnqueueUncertain,
    FairlaneError,
    KafkaUnreachable,
    ProducerClosed,
    SomeNotEnqueued,
    TasksNotSent,
)
from fairlane.topics.names import QueueNames

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as kafka:
        yield kafka


@pytest.fixture(scope="module")
def names(own_kafka: EmbeddedKafka) -> Iterator[QueueNames]:
    with live_queue(own_kafka.bootstrap) as names:
        yield names


def stat_of(thread: Path) -> str:
    """The state of a thread by one letter, as in proc(5)."""
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def frozen(kafka: EmbeddedKafka) -> Iterator[None]:
    mark = kafka.cluster.brokers[1].mark
    assert mark is not None
    os.kill(mark.pid, signal.SIGSTOP)
    # Each of its threads stops when it next looks: one may still answer.
    threads = list(Path(f"/proc/{mark.pid}/task").glob("*"))
    wait_until(lambda: all(stat_of(each) == "T" for each in threads), "all of it stands still")
    try:
        yield
    finally:
        os.kill(mark.pid, signal.SIGCONT)


def connected(kafka: EmbeddedKafka, names: QueueNames, timeout_s: float, **properties: object) -> TaskProducer:
    """A producer that has sent a task already."""
    settings = {name.replace("_", "."): value for name, value in properties.items()}
    producer = TaskProducer(Connection(kafka.bootstrap, settings), names, enqueue_timeout_s=timeout_s)
    wait_until(lambda: producer.enqueue(parcel(a_task(names))), "a first task is there")
    return producer


def test_what_a_silent_broker_does_not_acknowledge_in_time_is_uncertain(
    own_kafka: EmbeddedKafka, names: QueueNames
) -> None:
    producer = connected(own_kafka, names, 1.5)
    task = a_task(names)
    with frozen(own_kafka), pytest.raises(EnqueueUncertain, match=f"id='{task.id}'"):
        producer.enqueue(parcel(task))
    producer.close()


def test_a_full_buffer_is_said_after_the_timeout_and_nothing_else_is_waited_for(
    own_kafka: EmbeddedKafka, names: QueueNames
) -> None:
    producer = connected(own_kafka, names, 1.5, queue_buffering_max_messages=10)
    tasks = [a_task(names) for _ in range(40)]
    with frozen(own_kafka), pytest.raises(SomeNotEnqueued) as caught:
        producer.enqueue_many([parcel(task) for task in tasks])
    errors = [error for _, error in caught.value.errors]
    assert len(caught.value.arrived) + len(errors) == 40
    assert isinstance(errors[-1], BufferFull)
    assert {type(error) for error in errors} <= {BufferFull, EnqueueUncertain}
    producer.close()


def test_close_names_what_did_not_arrive_and_whoever_waits_for_it_is_told(
    own_kafka: EmbeddedKafka, names: QueueNames
) -> None:
    producer = connected(own_kafka, names, 30)
    task = a_task(names)
    told: list[FairlaneError] = []

    def enqueue() -> None:
        try:
            producer.enqueue(parcel(task))
        except FairlaneError as error:
            told.append(error)

    with frozen(own_kafka):
        waiting = threading.Thread(target=enqueue)
        waiting.start()
        wait_until(lambda: producer.in_flight, "the task is under way")
        with pytest.raises(TasksNotSent) as caught:
            producer.close(timeout_s=0.5)
        waiting.join(60)
    assert caught.value.task_ids == (task.id,)
    assert [type(error) for error in told] in ([EnqueueUncertain], [ProducerClosed])


def test_once_all_brokers_are_gone_a_task_is_not_sent_into_the_dark(
    own_kafka: EmbeddedKafka, names: QueueNames
) -> None:
    producer = connected(own_kafka, names, 2)
    own_kafka.kill(1)
    try:
        with pytest.raises((KafkaUnreachable, EnqueueUncertain)):
            producer.enqueue(parcel(a_task(names)))
        with pytest.raises(KafkaUnreachable):
            producer.enqueue(parcel(a_task(names)))
    finally:
        own_kafka.restart(1)
    wait_until(lambda: _enqueued(producer, names), "tasks are taken again")
    producer.close()


def _enqueued(producer: TaskProducer, names: QueueNames) -> bool:
    try:
        producer.enqueue(parcel(a_task(names)))
    except (KafkaUnreachable, EnqueueUncertain):
        return False
    return True
