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
from fairlane.producer.librdkafka import librdkafka_log, property_refused
from fairlane.producer.reports import is_no_such_topic
from fairlane.producer.watch import Waiter, Watch
from fairlane.topics.admin_client import refused
from fairlane.topics.connection import Connection
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
        self._bootstrap = connection.bootstrap
        config = connection.consumer(
            group_id=f"{names.group}-results-{uuid.uuid4().hex[:8]}",
            auto_offset_reset="earliest",
            enable_partition_eof=True,
            allow_auto_create_topics=False,
            queued_max_messages_kbytes=4_096,
            # A partition that is added waits for the fetch that is out.
            fetch_wait_max_ms=50,
        )
        try:
            self._consumer = Consumer({**config, "error_cb": self._on_error, "logger": librdkafka_log})
        except KafkaException as error:
            raise property_refused(error) from error
        self._watches: dict[tuple[str, int], Watch] = {}
        self._partitions: dict[str, int] = {}
        self._replies: int | None = None
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

    def _take(self, message: Message) -> None:
        error = message.error()
        key = (message.topic() or "", message.partition() or 0)
        watch = self._watches.get(key)
        if watch is None:
            if error is not None:
                _log.debug("reading results: %s", error.str())
        elif error is None:
            self.trouble = ""
            watch.read(message.offset() or 0, message.key(), message.value())
        elif error.code() == KafkaError._PARTITION_EOF:
            self.trouble = ""
            watch.reached(message.offset() or 0)
        else:
            self._refused(key, error)

    def _refused(self, key: tuple[str, int], error: KafkaError) -> None:
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
        at: dict[int, list[Waiter]] = {}
        for waiter in self._to_place:
            at.setdefault(partition_of(waiter.task_id.encode(), partitions), []).append(waiter)
        for partition, waiters in at.items():
            watch = self._covering(topic, partition, min(waiter.since_ms for waiter in waiters))
            self._add(watch, TopicPartition(topic, partition), waiters)
            self._to_place = [waiter for waiter in self._to_place if waiter not in waiters]

    def _covering(self, topic: str, partition: int, since_ms: int) -> Watch:
        """The watch of the partition, which reads everything from that time on."""
        watch = self._watches.get((topic, partition))
        since_ms = max(0, since_ms - SKEW_MS)
        if watch is not None and watch.covers(since_ms):
            return watch
        # The end first: what comes between the two answers is read twice rather than not at all.
        low, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_ANSWER_S)
        start = self._offset_at(topic, partition, since_ms, end) if since_ms else low
        if watch is None:
            watch = self._watches[topic, partition] = Watch(start, end, since_ms)
            self._consumer.incremental_assign([TopicPartition(topic, partition, start)])
        elif start < watch.covered_from:
            self._consumer.seek(TopicPartition(topic, partition, start))
            watch.rewind(start, since_ms)
        return watch

    def _offset_at(self, topic: str, partition: int, since_ms: int, end: int) -> int:
        [found] = self._consumer.offsets_for_times([TopicPartition(topic, partition, since_ms)], timeout=_ANSWER_S)
        if found.error is not None:
            raise KafkaException(found.error)
        return found.offset if found.offset >= 0 else end

    def _add(self, watch: Watch, at: TopicPartition, waiters: Sequence[Waiter]) -> None:
        # Who takes what there is needs to know how much there is now; who waits for an end will see it come.
        if all(waiter.ends_only for waiter in waiters):
            _, end = self._consumer.get_watermark_offsets(at, cached=True)
        else:
            _, end = self._consumer.get_watermark_offsets(at, timeout=_ANSWER_S)
        for waiter in waiters:
            watch.add(waiter, end)

    def _open_replies(self, waiters: tuple[Waiter, ...], address: Future[str | FairlaneError]) -> None:
        topic = self._names.replies
        if self._replies is None:
            # Any will do, but not the same for all: producers share the partitions.
            partition = uuid.uuid4().int % self._count(topic)
            _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_ANSWER_S)
            self._watches[topic, partition] = Watch(end, end, 0)
            self._consumer.incremental_assign([TopicPartition(topic, partition, end)])
            self._replies = partition
        self._add(self._watches[topic, self._replies], TopicPartition(topic, self._replies), waiters)
        if address.set_running_or_notify_cancel():
            address.set_result(f"{topic}:{self._replies}")

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
            return QueueUnknown(self._names.queue, topic, self._bootstrap)
        return refused(f"read {topic}", error)

    def _on_error(self, error: KafkaError) -> None:
        self.trouble = error.str()
