"""What Kafka's answers mean to whoever enqueued: only EnqueueUncertain leaves open whether the task is there."""

from __future__ import annotations

import pickle

import pytest
from confluent_kafka import KafkaError

from fairlane.producer.reports import enqueue_error
from fairlane.topics.connection import Connection
from fairlane.topics.errors import (
    EnqueueRefused,
    EnqueueUncertain,
    FairlaneError,
    ProducerClosed,
    QueueUnknown,
    SomeNotEnqueued,
    TaskTooLarge,
)
from fairlane.topics.task import Task

TASK = Task(id="t-1", type="email", payload=b"12345", value=b"12345", key=b"ann")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, TaskTooLarge),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, QueueUnknown),
        (KafkaError._UNKNOWN_TOPIC, QueueUnknown),
        (KafkaError._UNKNOWN_PARTITION, QueueUnknown),
        # taken back before it left
        (KafkaError._PURGE_QUEUE, ProducerClosed),
        # it may have left
        (KafkaError._PURGE_INFLIGHT, EnqueueUncertain),
        (KafkaError._MSG_TIMED_OUT, EnqueueUncertain),
        (KafkaError._TRANSPORT, EnqueueUncertain),
        (KafkaError._FATAL, EnqueueUncertain),
        # the broker said no
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, EnqueueRefused),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, EnqueueRefused),
        (KafkaError.INVALID_RECORD, EnqueueRefused),
        (KafkaError.POLICY_VIOLATION, EnqueueRefused),
    ],
)
def test_an_answer_is_an_error_that_says_whether_the_task_can_be_there(code: int, error: type[FairlaneError]) -> None:
    told = enqueue_error(KafkaError(code), TASK, "shop.p3", "shop", 30, Connection("h:9092"))
    assert type(told) is error
    assert getattr(told, "task_id", TASK.id) == TASK.id


def test_the_size_is_what_a_user_can_do_something_about() -> None:
    told = enqueue_error(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), TASK, "shop.p3", "shop", 30, Connection("h:9092"))
    assert isinstance(told, TaskTooLarge)
    assert told.size_bytes == 8


def test_an_error_about_many_crosses_a_process_boundary() -> None:
    error = SomeNotEnqueued(("a",), (("b", EnqueueRefused("b", "shop.p3", "POLICY_VIOLATION", "no")),))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert "1 of 2 tasks did not arrive: b: Kafka refused task b on topic shop.p3: POLICY_VIOLATION: no" in str(error)
