"""What Kafka's answer about one task means to whoever enqueued it.

Invariant: an error says whether the task can be in Kafka. Only EnqueueUncertain leaves it open; every other error means
that it is not there.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

from fairlane.topics.connection import Connection
from fairlane.topics.denial import is_denial, missing, on_topic
from fairlane.topics.errors import (
    EnqueueRefused,
    EnqueueUncertain,
    FairlaneError,
    ProducerClosed,
    QueueUnknown,
    TaskTooLarge,
)
from fairlane.topics.task import Task

_NO_SUCH_TOPIC: Final = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
)
_LIBRDKAFKAS_OWN: Final = 0
"""librdkafka's own errors have negative codes, the broker's have positive ones."""


def size_bytes(task: Task) -> int:
    """The size of the task's record without its headers, which is what a user can do something about."""
    return len(task.value) + len(task.key or b"")


def is_no_such_topic(error: KafkaError) -> bool:
    """Whether Kafka says that the topic does not exist."""
    return error.code() in _NO_SUCH_TOPIC


def enqueue_error(
    error: KafkaError, task: Task, topic: str, queue: str, waited_s: float, connection: Connection
) -> FairlaneError:
    """The error for a task that Kafka did not acknowledge.

    Args:
        error: from its delivery report, or from handing it over.
        task: what was to be enqueued.
        topic: where to.
        queue: the queue of that topic.
        waited_s: how long Kafka had, seconds.
        connection: who sent it.
    """
    code = error.code()
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return TaskTooLarge(task.id, size_bytes(task))
    if is_no_such_topic(error):
        return QueueUnknown(queue, topic)
    if is_denial(error):
        return EnqueueRefused(
            task.id, topic, error.name(), missing(error, "", connection, on_topic("Write", topic)).advice
        )
    if code == KafkaError._PURGE_QUEUE:
        return ProducerClosed(task.id)
    if code == KafkaError._MSG_TIMED_OUT:
        return EnqueueUncertain(task.id, waited_s)
    if code == KafkaError._PURGE_INFLIGHT:
        return EnqueueUncertain(task.id, waited_s, "the producer was closed meanwhile")
    if code < _LIBRDKAFKAS_OWN or error.retriable() or error.fatal():
        return EnqueueUncertain(task.id, waited_s, f"{error.name()}: {error.str()}")
    return EnqueueRefused(task.id, topic, error.name(), error.str())
