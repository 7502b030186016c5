"""Reads partitions of `<queue>.state` from their beginnings to their ends, for their new owners.

Invariant: a partition is told to be through only when all is read that could have been written before its events'
committed offset was known. That end is asked for as an uncommitted reader sees it, and read as a committed one does:
what a predecessor's transaction wrote may wait for its marker for a moment when its offsets are there already, and the
end of what is committed would be before it. (KAFKA-10167: Kafka Streams asked for the committed end, and restored too
little.) Of what is still open then nothing is read; it ends by itself, or by whoever takes over from the dead.
"""

from __future__ import annotations

import logging
import time
from typing import Final, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from fairlane.consumer.config import WorkerConfig
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.denial import Denials, on_topic
from fairlane.topics.trouble import Trouble

_logger = logging.getLogger("fairlane.owners")

STEP_S: Final = 0.05
BATCH_MAX: Final = 500
TIMEOUT_S: Final = 5.0
BACKOFF_S: Final = 0.5
_BEGINNING: Final = -2
_END: Final = -1


class Step(NamedTuple):
    """What was read.

    Attributes:
        records: partition, key and value of each, in order.
        through: partitions of which there is no more.
    """

    records: list[tuple[int, bytes, bytes | None]]
    through: list[int]


class Changelog:
    """Owned by one thread.

    Args:
        config: of the worker.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._topic = config.names.state
        self._asked: set[int] = set()
        """Of which the end is not known yet."""
        self._ends: dict[int, int] = {}
        self._consumer: Consumer | None = None
        self._denials = Denials(config.connection, _logger)
        self._trouble = Trouble()

    @property
    def busy(self) -> bool:
        """Whether there is something to read."""
        return bool(self._asked or self._ends)

    def begin(self, partition: int) -> None:
        """Read this one, whose events' committed offset is known by now, from its beginning."""
        self.forget(partition)
        self._asked.add(partition)

    def forget(self, partition: int) -> None:
        """Read no more of this one."""
        self._asked.discard(partition)
        if self._ends.pop(partition, None) is not None:
            self._unassign(partition)

    def step(self) -> Step:
        """Read some more; waits for a moment if there is nothing now."""
        try:
            found = self._find_ends() if self._asked else []
            if not self._ends:
                self._close()
                return Step([], found)
            read = self._read()
            return Step(read.records, found + read.through)
        except KafkaException as error:
            self._failed(error.args[0])
            time.sleep(BACKOFF_S)
            return Step([], [])

    def _properties(self, isolation: str) -> dict[str, object]:
        properties = self._config.connection.consumer(isolation_level=isolation, fetch_wait_max_ms=100)
        return properties | {
            # Never joined: librdkafka asks where it is all the same, and may do so for the queue's own.
            "group.id": self._config.names.group,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }

    def _find_ends(self) -> list[int]:
        """Ask for the ends, and begin to read; returns what is empty."""
        asker = Consumer(self._properties("read_uncommitted"), logger=librdkafka_log)
        try:
            low, end = self._offsets(asker, _BEGINNING), self._offsets(asker, _END)
        finally:
            asker.close()
        empty = [partition for partition in sorted(self._asked) if low[partition] >= end[partition]]
        starts = [partition for partition in sorted(self._asked) if low[partition] < end[partition]]
        self._asked.clear()
        if starts:
            if self._consumer is None:
                self._consumer = Consumer(self._properties("read_committed"), logger=librdkafka_log)
            self._ends.update((partition, end[partition]) for partition in starts)
            self._consumer.incremental_assign([TopicPartition(self._topic, each, OFFSET_BEGINNING) for each in starts])
        return empty

    def _offsets(self, asker: Consumer, which: int) -> dict[int, int]:
        wanted = [TopicPartition(self._topic, partition, which) for partition in sorted(self._asked)]
        found = {}
        for each in asker.offsets_for_times(wanted, timeout=TIMEOUT_S):
            if each.error is not None:
                raise KafkaException(each.error)
            found[each.partition] = each.offset
        return found

    def _read(self) -> Step:
        assert self._consumer is not None
        message = self._consumer.poll(STEP_S)
        if message is None:
            return Step([], [])
        step = Step([], [])
        for each in [message, *self._consumer.consume(BATCH_MAX, 0)]:
            self._take(each, step)
        return step

    def _take(self, message: Message, step: Step) -> None:
        partition, offset = message.partition() or 0, message.offset() or 0
        end = self._ends.get(partition)
        if end is None:
            return
        error = message.error()
        if error is None:
            step.records.append((partition, message.key() or b"", message.value()))
            offset += 1
        elif error.code() != KafkaError._PARTITION_EOF:
            self._failed(error)
            return
        if offset >= end:
            self._trouble.over(time.monotonic())
            self.forget(partition)
            step.through.append(partition)

    def _failed(self, error: KafkaError) -> None:
        if not self._denials.tell(error, "restore schedules", on_topic("Read", self._topic)) and self._trouble.tell(
            error.name(), time.monotonic()
        ):
            _logger.warning("could not restore schedules from %s yet (%s); trying again", self._topic, error.str())

    def _unassign(self, partition: int) -> None:
        if self._consumer is not None:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def _close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def close(self) -> None:
        """Read nothing more."""
        self._asked.clear()
        self._ends.clear()
        self._close()
