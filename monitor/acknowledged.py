"""Records of an operator's, written and acknowledged.

Invariant: whoever gets no error knows that Kafka has them all. Nothing here is in a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.connection import Connection
from fairlane.topics.control_errors import NotControlled
from fairlane.topics.denial import is_denial, missing, on_topic
from fairlane.topics.errors import KafkaUnreachable


class Place(NamedTuple):
    """Where a record is."""

    partition: int
    offset: int


def write(
    connection: Connection,
    timeout_s: float,
    topic: str,
    records: Sequence[tuple[bytes, bytes | None]],
    *,
    done: int = 0,
) -> list[Place]:
    """Write records, and return when all of them are acknowledged; says where they are, in no order.

    Args:
        connection: to the cluster.
        timeout_s: how long Kafka may take, seconds.
        topic: where to.
        records: key and value of each.
        done: how many are in force whatever becomes of these; 0 is those of them that were acknowledged.

    Raises:
        NotControlled: Kafka refused one.
        RightMissing: we may not write there.
        KafkaUnreachable: no broker answered.
    """
    if not records:
        return []
    refused: list[KafkaError] = []
    places: list[Place] = []

    def told(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            refused.append(error)
        else:
            places.append(Place(message.partition() or 0, message.offset() or 0))

    properties = connection.producer(message_timeout_ms=round(timeout_s * 1000))
    producer = Producer(properties, logger=librdkafka_log)
    for key, value in records:
        produce = partial(producer.produce, topic, value, key, on_delivery=told)
        try:
            produce()
        except BufferError:
            producer.flush(timeout_s)
            produce()
        except KafkaException as raised:
            refused.append(raised.args[0])
            break
    if producer.flush(timeout_s + 1.0):
        raise KafkaUnreachable(connection.bootstrap, timeout_s)
    if not refused:
        return places
    error = refused[0]
    if is_denial(error):
        raise missing(error, f"write {topic}", connection, on_topic("Write", topic))
    if error.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
        raise KafkaUnreachable(connection.bootstrap, timeout_s, error.str())
    raise NotControlled(topic, error.name(), error.str(), done or len(records) - len(refused))
