"""One consumer of status events and replies, from its first request to its last.

Invariant: it belongs to the thread that made it. A partition is assigned at an offset that is known, never at "the
end", which would be decided later than it is asked for.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fairlane.producer import fork
from fairlane.producer.librdkafka import property_refused
from fairlane.producer.offsets import Offsets, Partition
from fairlane.producer.reports import is_no_such_topic
from fairlane.producer.watch import Waiter, Watch
from fairlane.topics.admin_client import refused
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.connection import Connection
from fairlane.topics.denial import Denials, on_group, on_topic
from fairlane.topics.errors import FairlaneError, QueueUnknown
from fairlane.topics.names import QueueNames
from fairlane.topics.partitioner import partition_of

_log = logging.getLogger("fairlane.producer")

SKEW_MS: Final = 300_000
"""How far the clocks of producers, workers and brokers may be apart for an id's time to tell where to begin."""

_ANSWER_S: Final = 2.0
_DRAIN: Final = 500

Expected = tuple[tuple[Waiter, ...], "Future[str | FairlaneError]"]


class Session:
    """Reads the partitions that somebody waits for.

    Raises:
        UsageError: librdkafka does not accept the properties of the connection.

    Attributes:
        trouble: why Kafka cannot be read now, "" if it can.
    """

    def __init__(self, connection: Connection, names: QueueNames) -> None:
        self.trouble = ""
        self._names = names
        self._connection = connection
        self._denials = Denials(connection, _log)
        config = connection.consumer(
            # Never joined: librdkafka asks where it is all the same, and the queue's own needs no right of its own.
            group_id=names.group,
            auto_offset_reset="earliest",
            enable_partition_eof=True,
            allow_auto_create_topics=False,
            queued_max_messages_kbytes=4_096,
            # A partition that is added waits for the fetch that is out.
            fetch_wait_max_ms=25,
        )
        try:
            self._consumer = Consumer({**config, "error_cb": self._on_error, "logger": librdkafka_log})
            self._offsets = Offsets(connection, _ANSWER_S)
        except KafkaException as error:
            raise property_refused(error) from error
        self._watches: dict[Partition, Watch] = {}
        self._partitions: dict[str, int] = {}
        self._replies: Partition | None = None
        self._to_place: list[Waiter] = []
        self._to_expect: list[Expected] = []

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits. Those who gave up are forgotten here."""
        self._to_place = [waiter for waiter in self._to_place if not waiter.future.cancelled()]
        self._to_expect = [expected for expected in self._to_expect if not expected[1].cancelled()]
        awaited = [watch for watch in self._watches.values() if watch.is_awaited]
        return bool(awaited or self._to_place or self._to_expect)

    def ask(self, waiter: Waiter) -> None:
        """Have somebody wait for an event in the status topic, from the next `read` on."""
        self._to_place.append(waiter)

    def expect(self, waiters: tuple[Waiter, ...], address: Future[str | FairlaneError]) -> None:
        """Have them wait for replies, and say where those are to be sent to, with the next `read`."""
        self._to_expect.append((waiters, address))

    def read(self, timeout_s: float) -> None:
        """Begin to read what was asked for since, and read what has come."""
        if self._to_place or self._to_expect:
            self._place()
            if not self.is_awaited:
                return
        first = self._consumer.poll(timeout_s)
        if first is None:
            return
        self._take(first)
        for message in self._consumer.consume(_DRAIN, 0):
            self._take(message)

    def close(self, error: FairlaneError) -> None:
        """Leave; who still waits gets `error`."""
        for watch in self._watches.values():
            watch.fail(error)
        self._fail_placing(error)
        self._consumer.close()

    def abandon(self) -> None:
        """Never touch the consumer again: it belongs to the parent of this process."""
        fork.abandon(self._consumer)
        fork.abandon(self._offsets.raw)

    def _take(self, message: Message) -> None:
        error = message.error()
        key = (message.topic() or "", message.partition() or 0)
        watch = self._watches.get(key)
        if watch is None:
            group = on_group("Describe", self._names.group)
            if error is not None and not self._denials.tell(error, "read results", group):
                _log.debug("reading results: %s", error.str())
        elif error is None:
            self.trouble = ""
            watch.read(message.offset() or 0, message.key(), message.value())
        elif error.code() == KafkaError._PARTITION_EOF:
            self.trouble = ""
            watch.reached(message.offset() or 0)
        else:
            self._refused(key, error)

    def _refused(self, key: Partition, error: KafkaError) -> None:
        if is_no_such_topic(error) or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            topic, partition = key
            self._watches.pop(key).fail(self._topic_error(topic, error))
            self._consumer.incremental_unassign([TopicPartition(topic, partition)])
            self._partitions.pop(topic, None)
        else:
            self.trouble = error.str()

    def _place(self) -> None:
        """Assign what is waited for. What Kafka does not answer now is left for the next time."""
        try:
            while self._to_expect:
                self._open_replies(*self._to_expect[0])
                del self._to_expect[0]
            if self._to_place:
                self._place_waiters()
        except KafkaException as error:
            self.trouble = self.trouble or error.args[0].str()
        except FairlaneError as error:
            self._fail_placing(error)

    def _fail_placing(self, error: FairlaneError) -> None:
        for waiter in self._to_place:
            waiter.answer(error)
        for _, address in self._to_expect:
            if address.set_running_or_notify_cancel():
                address.set_result(error)
        self._to_place.clear()
        self._to_expect.clear()

    def _place_waiters(self) -> None:
        topic = self._names.status
        partitions = self._count(topic)
        at: dict[Partition, list[Waiter]] = {}
        for waiter in self._to_place:
            at.setdefault((topic, partition_of(waiter.task_id.encode(), partitions)), []).append(waiter)
        since_ms = {
            partition: max(0, min(waiter.since_ms for waiter in waiters) - SKEW_MS) for partition, waiters in at.items()
        }
        uncovered = {
            partition: moment_ms
            for partition, moment_ms in since_ms.items()
            if partition not in self._watches or not self._watches[partition].covers(moment_ms)
        }
        # Who takes what there is needs to know how much there is now; who waits for an end will see it come.
        curious = [partition for partition, waiters in at.items() if not all(waiter.ends_only for waiter in waiters)]
        ends = self._offsets.ends(list({*uncovered, *curious}))
        starts = self._offsets.starts(uncovered, ends)
        for partition, waiters in at.items():
            if partition in starts:
                self._cover(partition, starts[partition], ends[partition], since_ms[partition])
            self._add(partition, waiters, ends.get(partition))
            placed = set(waiters)
            self._to_place = [waiter for waiter in self._to_place if waiter not in placed]

    def _cover(self, partition: Partition, start: int, end: int, since_ms: int) -> None:
        """Have the partition read from `start` on, or from before it."""
        watch = self._watches.get(partition)
        if watch is None:
            self._consumer.incremental_assign([TopicPartition(*partition, start)])
            self._watches[partition] = Watch(start, end, since_ms)
        elif start < watch.covered_from:
            self._consumer.seek(TopicPartition(*partition, start))
            watch.rewind(start, since_ms)

    def _add(self, partition: Partition, waiters: Sequence[Waiter], end: int | None) -> None:
        if end is None:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
        for waiter in waiters:
            self._watches[partition].add(waiter, end)

    def _open_replies(self, waiters: tuple[Waiter, ...], address: Future[str | FairlaneError]) -> None:
        topic = self._names.replies
        if self._replies is None:
            # Any will do, but not the same for all: producers share the partitions.
            partition = (topic, uuid.uuid4().int % self._count(topic))
            end = self._offsets.ends([partition])[partition]
            self._cover(partition, end, end, 0)
            self._replies = partition
        self._add(self._replies, waiters, None)
        if address.set_running_or_notify_cancel():
            address.set_result(f"{topic}:{self._replies[1]}")

    def _count(self, topic: str) -> int:
        """How many partitions the topic has."""
        if topic not in self._partitions:
            metadata = self._consumer.list_topics(topic, timeout=_ANSWER_S).topics[topic]
            if metadata.error is not None:
                raise self._topic_error(topic, metadata.error)
            self._partitions[topic] = len(metadata.partitions)
        return self._partitions[topic]

    def _topic_error(self, topic: str, error: KafkaError) -> FairlaneError:
        if is_no_such_topic(error):
            return QueueUnknown(self._names.queue, topic, self._connection.bootstrap)
        # Told, for who waits may hear it from the status topic all the same.
        self._denials.tell(error, f"read {topic}", on_topic("Read", topic))
        return refused(f"read {topic}", error, self._connection, on_topic("Read", topic))

    def _on_error(self, error: KafkaError) -> None:
        # That all brokers are down says less than why one is, which may have been said before.
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self.trouble:
            self.trouble = error.str()
