"""Gathers what many records say, so that a task of which several speak is written once.

Invariant: a batch holds the records and the positions after them, and nothing is in it that the positions do not cover.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, Message

from fairlane.monitor.discovery import default_type_of
from fairlane.monitor.letter import Letter, letter_of
from fairlane.monitor.record import record_of
from fairlane.monitor.scan import Partition
from fairlane.monitor.store import facts
from fairlane.monitor.store.task_row import TaskRow, Told, Waiting, newer
from fairlane.topics.audit import PROGRESS, AuditRecord, decode_audit
from fairlane.topics.events import decode_heartbeat
from fairlane.topics.names import Lane, QueueNames


class Audited(NamedTuple):
    """A record of the audit, where it is, and its bytes."""

    partition: int
    offset: int
    record: AuditRecord
    value: bytes


class Batch:
    """What was read and is not written yet.

    Args:
        names: of the queue.
        lanes: by topic.
    """

    def __init__(self, names: QueueNames, lanes: Mapping[str, Lane]) -> None:
        self._names = names
        self._lanes = lanes
        self._told: dict[str, Told] = {}
        self._waiting: dict[str, Waiting] = {}
        self.attempts: list[tuple[str, Told]] = []
        """Events for the timelines of tasks: whatever is more than a first attempt that completed."""
        self.letters: list[Letter] = []
        self.audit: list[Audited] = []
        self.beats: dict[str, tuple[int, bytes | None]] = {}
        """By worker, the newest heartbeat's time and JSON; None where Kafka was told to forget it."""
        self.positions: dict[Partition, int] = {}
        self.at_end: set[Partition] = set()
        """Partitions that were read to their then end."""
        self.records = 0

    @property
    def rows(self) -> Iterable[TaskRow]:
        """What is known of each task that was spoken of."""
        for task_id in self._told.keys() | self._waiting.keys():
            yield TaskRow(task_id, self._told.get(task_id), self._waiting.get(task_id))

    def add(self, message: Message) -> None:
        """Take in a record, or the end of a partition."""
        topic, offset = message.topic() or "", message.offset() or 0
        partition = (topic, message.partition() or 0)
        if (error := message.error()) is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self.positions[partition] = offset
                self.at_end.add(partition)
            return
        self.positions[partition] = offset + 1
        self.records += 1
        if topic == self._names.status:
            if (said := facts.told_by_status(message)) is not None:
                self._tell(*said)
        elif topic == self._names.dlq:
            self._bury(letter_of(record_of(message)))
        elif topic == self._names.audit:
            value = message.value() or b""
            # How far a replay came is for whoever resumes it.
            if (record := decode_audit(value)) is not None and record.phase != PROGRESS:
                self.audit.append(Audited(partition[1], offset, record, value))
        elif topic == self._names.workers:
            self._hear(message)
        else:
            lane = self._lanes.get(topic)
            found = facts.waiting_in(message, lane, default_type_of(lane))
            if found is not None:
                task_id, waiting = found
                before = self._waiting.get(task_id)
                self._waiting[task_id] = waiting if before is None else max(before, waiting)

    def _tell(self, task_id: str, told: Told) -> None:
        before = self._told.get(task_id)
        self._told[task_id] = told if before is None else max(before, told)
        if told.state != "completed" or told.attempt > 1:
            self.attempts.append((task_id, told))

    def _bury(self, letter: Letter) -> None:
        self.letters.append(letter)
        told = newer(self._told.get(letter.task_id), facts.told_by_letter(letter))
        assert told is not None, "a letter tells something"
        self._told[letter.task_id] = told

    def _hear(self, message: Message) -> None:
        value = message.value()
        worker = (message.key() or b"").decode("utf-8", "replace")
        if value is None:
            self.beats[worker] = (message.timestamp()[1], None)
        elif (beat := decode_heartbeat(value)) is not None:
            self.beats[beat.worker] = (beat.at_ms, value)
