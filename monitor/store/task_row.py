"""What the store knows of one task, and how facts about it that come in any order make one row.

Invariant: no I/O and no clock. Of each task two registers are kept: what was last *told* of it (a status event, or its
letter where the event is forgotten) and the newest record of it that *waits* in a lane or tier. Each register keeps the
largest fact by a total order over all of its fields, so merging is commutative, associative and idempotent: topics and
partitions may be read in any order, and twice. Which state that makes is a function of the two, as `task_view` has it
for a single lookup.

Why two: status events of one task are of one partition, so their offsets tell which is newer; records in lanes and
tiers are of many, and their replays and attempts do. Between the two no clock decides where causality can: an event
names the record that it settled, and the attempt.

Source: state-based CRDTs, max registers (Shapiro et al., 2011).
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

import msgspec

from fairlane.topics.events import TERMINAL, ErrorInfo, State

SKEW_MS: Final = 60_000
"""By how much the clocks of two brokers may differ before a replayed task may look as if it still waited."""

FORGOTTEN: Final = -1
"""The offset of what a letter tells: any status event is newer."""


class Told(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """The newest that was said of a task. What orders it comes first: offset in the status topic, then the time.

    Attributes:
        offset: of its record in the status topic; FORGOTTEN where a letter tells it.
        written_ms: Kafka's time of that record, Unix ms.
        partition: of the status topic, or of the DLQ.
        topic, number, at: topic, partition and offset of the record that it settled.
    """

    offset: int
    written_ms: int
    partition: int
    state: State
    type: str
    lane: str
    attempt: int
    max_attempts: int
    enqueued_ms: int
    started_ms: int
    finished_ms: int
    due_ms: int
    worker: str
    topic: str
    number: int
    at: int
    trace_id: str
    reason: str
    error_type: str
    error_message: str

    @property
    def ended(self) -> bool:
        """Whether it says that the task ended."""
        return self.state in TERMINAL


class Waiting(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """A record of a task in a lane or tier, settled or not; ordered by replays, attempt, time and place."""

    replays: int
    attempt: int
    written_ms: int
    topic: str
    partition: int
    offset: int
    type: str
    lane: str
    key: str
    max_attempts: int
    enqueued_ms: int
    due_ms: int
    expires_ms: int
    handbacks: int
    trace_id: str


class TaskRow(msgspec.Struct, frozen=True, gc=False):
    """All that the store knows of one task; at least one of the two is there."""

    id: str
    told: Told | None = None
    waiting: Waiting | None = None

    @property
    def summary(self) -> Summary:
        """What it is looked for by."""
        told = self.told
        if told is None or self._waits:
            waiting = self.waiting
            assert waiting is not None, "a row is made of a fact"
            again = waiting.attempt > 1 or (told is not None and told.state == "retrying")
            return Summary(
                "retrying" if again else "pending",
                waiting.type,
                waiting.lane,
                waiting.key,
                waiting.enqueued_ms or waiting.written_ms,
            )
        key = self.waiting.key if self.waiting is not None else ""
        return Summary(told.state, told.type, told.lane, key, told.enqueued_ms or told.finished_ms or told.written_ms)

    @property
    def _waits(self) -> bool:
        """Whether the record in a lane or tier is newer than what was told."""
        told, waiting = self.told, self.waiting
        if told is None or waiting is None:
            return told is None
        if (told.topic, told.number, told.at) == (waiting.topic, waiting.partition, waiting.offset):
            return False
        if waiting.replays:
            return waiting.written_ms > told.written_ms
        if told.attempt >= waiting.attempt:
            return False
        # An event is written with the record of the next attempt. One that came much later is of a replay, whose
        # record was not read yet.
        return told.written_ms <= waiting.written_ms + SKEW_MS

    @property
    def error(self) -> ErrorInfo | None:
        """The last error, where there was one."""
        if self.told is None or not self.told.error_type:
            return None
        return ErrorInfo(self.told.error_type, self.told.error_message)


class Summary(NamedTuple):
    """What a row is looked for by, and in which order: of it, `at_ms` is when the task was enqueued, Unix ms."""

    state: State
    type: str
    lane: str
    key: str
    at_ms: int


_Fact = TypeVar("_Fact", Told, Waiting)


def newer(one: _Fact | None, other: _Fact | None) -> _Fact | None:
    """The larger of two facts; None where there is neither."""
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def merge(one: TaskRow, other: TaskRow) -> TaskRow:
    """What two rows of a task say together; in whichever order rows are merged, and however often, it is the same."""
    assert one.id == other.id, "rows of one task"
    return TaskRow(one.id, newer(one.told, other.told), newer(one.waiting, other.waiting))
