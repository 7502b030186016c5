"""One librdkafka producer of this process, and the one thread that takes its delivery reports.

Invariant: a record is handed over only to a topic that was seen to exist lately, since the brokers were last all down
and since it last refused a record, so that an unreachable Kafka and an unknown queue are told before anything is in
flight; after `close` nothing is handed over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import TopicMetadata  # type: ignore[attr-defined]  # it is in their documentation

from fairlane.producer.librdkafka import property_refused
from fairlane.producer.reports import enqueue_error, is_no_such_topic, size_bytes
from fairlane.producer.shipment import Report, Shipment
from fairlane.producer.space import Space
from fairlane.topics import wire
from fairlane.topics.admin_client import refused
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.connection import Connection
from fairlane.topics.deadline import Deadline
from fairlane.topics.denial import is_denial, on_topic
from fairlane.topics.errors import (
    FairlaneError,
    KafkaUnreachable,
    ProducerClosed,
    QueueUnknown,
    TaskTooLarge,
    UsageError,
)
from fairlane.topics.login import is_refused, refused_login
from fairlane.topics.task import Task

_log = logging.getLogger("fairlane.producer")

_POLL_S: Final = 0.5
_ASK_FIRST_S: Final = 2.0
_ASK_LEAST_S: Final = 0.1
_ASK_MORE: Final = 2
_PURGED_S: Final = 5.0
_MESSAGE_MAX_BYTES: Final = 1_000_000
"""librdkafka's default of message.max.bytes."""

_KNOWN_S: Final = 300.0
"""How long what was seen of a topic counts; librdkafka looks for new partitions as often."""


class _Known(NamedTuple):
    """What was seen of a topic: the partitions that have a leader, and until when (monotonic, s) that counts."""

    partitions: tuple[int, ...]
    until_s: float


class Client:
    """A connected producer.

    Args:
        connection: how to talk to Kafka.
        queue: named in errors.
        enqueue_timeout_s: how long Kafka has for a task, seconds.

    Attributes:
        broken: librdkafka said that this producer is of no further use.
        space: who waits for room in the buffer.
    """

    def __init__(self, connection: Connection, queue: str, enqueue_timeout_s: float) -> None:
        self.broken = False
        self.space = Space()
        self._queue = queue
        self._connection = connection
        self._timeout_s = enqueue_timeout_s
        self._closed = False
        self._handing_over = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._trouble: KafkaError | None = None
        self._denial: KafkaError | None = None
        self._undelivered: list[str] = []
        config = connection.producer(
            client_id=f"fairlane-{queue}",
            message_timeout_ms=max(1, round(enqueue_timeout_s * 1000)),
            linger_ms=0,
            # A broker that makes topics when they are asked for would make them with a week's retention.
            allow_auto_create_topics=False,
        )
        self._size_limit = int(config.get("message.max.bytes", _MESSAGE_MAX_BYTES))
        try:
            self.raw = Producer({**config, "error_cb": self._on_error, "logger": librdkafka_log})
        except KafkaException as error:
            raise property_refused(error) from error
        self._thread = threading.Thread(target=self._take_reports, name=f"fairlane-reports-{queue}", daemon=True)
        self._thread.start()

    def unknown_topics(self, topics: Iterable[str]) -> list[str]:
        """Those of `topics` that have to be verified before anything is sent to them."""
        now_s = time.monotonic()
        return [topic for topic in topics if (known := self._known.get(topic)) is None or known.until_s < now_s]

    def partitions(self, topic: str) -> tuple[int, ...]:
        """Those of the topic that had a leader when it was verified; none if it is to be verified again."""
        known = self._known.get(topic)
        return known.partitions if known is not None else ()

    def verify(self, topics: Iterable[str]) -> None:
        """See that the topics exist. Blocks for up to the enqueue timeout.

        Raises:
            KafkaUnreachable: no broker answered in time.
            KafkaRefused: the login failed, or a topic is not this client's to see.
            QueueUnknown: a topic does not exist.
        """
        deadline = Deadline(self._timeout_s)
        for topic in topics:
            found = self._ask(topic, deadline)
            error = found.error
            # Its leaders may be on their way: that is for the delivery to wait for.
            if error is None or error.code() == KafkaError.LEADER_NOT_AVAILABLE:
                led = tuple(sorted(number for number, each in found.partitions.items() if each.leader >= 0))
                self._known[topic] = _Known(led, time.monotonic() + _KNOWN_S)
            elif is_no_such_topic(error):
                raise QueueUnknown(self._queue, topic, self._connection.bootstrap)
            else:
                raise refused(f"take tasks for {topic}", error, self._connection, on_topic("Write", topic))

    def _ask(self, topic: str, deadline: Deadline) -> TopicMetadata:
        """What a broker says of the topic. Asks again until the deadline, unless no asking helps."""
        slice_s = _ASK_FIRST_S
        while True:
            try:
                metadata = self.raw.list_topics(topic, timeout=max(_ASK_LEAST_S, min(slice_s, deadline.left_s)))
            except KafkaException as error:
                trouble = self._trouble or error.args[0]
                if is_refused(trouble):
                    raise refused_login(trouble) from None
                if not deadline.left_s:
                    raise KafkaUnreachable(self._connection.bootstrap, self._timeout_s, trouble.str()) from None
                slice_s *= _ASK_MORE
                continue
            self._trouble = None
            found: TopicMetadata = metadata.topics[topic]
            return found

    def hand_over(self, shipment: Shipment, most: int) -> bool:
        """Give the next tasks of a shipment to librdkafka; what is wrong with one is in the shipment then.

        Args:
            shipment: what is sent; `handed` says how far it is.
            most: how many at most.

        Returns:
            Whether they are done with; False if there is no room in the buffer now.
        """
        tasks, topics, likes, partitions = shipment.tasks, shipment.topics, shipment.likes, shipment.partitions
        produce = self.raw.produce
        like: Task | None = None
        encode: Callable[[Task], list[tuple[str, bytes]]] = wire.encode
        with self._handing_over:
            closed = self._closed
            for index in range(shipment.handed, min(shipment.handed + most, len(tasks))):
                task, topic = tasks[index], topics[index]
                try:
                    if closed:
                        raise ProducerClosed(task.id)
                    if likes[index] is not like:
                        pattern = likes[index]
                        encode = wire.encode if pattern is None else wire.encoder(pattern)
                        like = pattern
                    headers: Any = encode(task)
                    produce(topic, task.value, task.key, partitions[index], Report(shipment, index), None, 0, headers)
                except BufferError:
                    return False
                except KafkaException as error:
                    shipment.fail(index, self._not_taken(error.args[0], task, topic))
                except UnicodeEncodeError as error:
                    shipment.fail(index, UsageError(f"task {task.id!r} has a field that is no text: {error}"))
                except ProducerClosed as error:
                    shipment.fail(index, error)
                shipment.handed = index + 1
        return True

    def _not_taken(self, error: KafkaError, task: Task, topic: str) -> FairlaneError:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self.broken = True
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return TaskTooLarge(task.id, size_bytes(task), self._size_limit)
        return self.translate(error, task, topic)

    def translate(self, error: KafkaError, task: Task, topic: str) -> FairlaneError:
        """The error for a task that Kafka did not acknowledge."""
        self._known.pop(topic, None)
        if self._denial is not None and error.code() == KafkaError._PURGE_QUEUE:
            error = self._denial
        if self._closed:
            self._undelivered.append(task.id)
        return enqueue_error(error, task, topic, self._queue, self._timeout_s, self._connection)

    def close(self, timeout_s: float) -> tuple[str, ...]:
        """Hand nothing over any more, wait for what is under way, then take the rest back. A second call does nothing.

        Returns:
            The ids of the tasks that were under way and did not arrive.
        """
        with self._handing_over:
            if self._closed:
                return ()
            self._closed = True
        if self.raw.flush(timeout_s):
            self.raw.purge()
            self.raw.flush(_PURGED_S)
        return tuple(self._undelivered)

    def _take_reports(self) -> None:
        while not self._closed:
            try:
                self.raw.poll(_POLL_S)
            except KafkaException as error:
                self._fell(error.args[0])
            except Exception:  # noqa: BLE001 - without this thread nobody would hear of anything any more
                _log.exception("a delivery report could not be taken")

    def _fell(self, error: KafkaError) -> None:
        """The producer failed for good; librdkafka raises that once, where it is polled."""
        self.broken = True
        if is_denial(error):
            # Of a producer that may Write to no topic at all the broker takes nothing: not even its first question.
            self._denial = error
            self.raw.purge()
        else:
            _log.error("the producer is broken and is replaced: %s", error.str())

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self.broken = True
            _log.error("the producer is broken and is replaced: %s", error.str())
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._known.clear()
            _log.info("no broker can be reached: %s", (self._trouble or error).str())
        else:
            self._trouble = error
