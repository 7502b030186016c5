"""What is known of one task, and how the newest of several facts is found.

Invariant: no I/O. A settled end is the end, unless the letter was replayed after it; else what a worker runs now counts
before what waits, and what waits before what was last said of it, as long as it is newer than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from fairlane.monitor.letter import Letter, trace_id_of
from fairlane.topics.events import TERMINAL, ErrorInfo, RunningTask, State, StatusEvent
from fairlane.topics.task import Task

_NULL: Final = msgspec.Raw(b"null")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the record of a task is.

    Attributes:
        kind: what its topic is.
        topic: the topic.
        partition: its partition.
        offset: its offset.
        before: how many offsets are unsettled before it in its partition; markers of transactions count too.
        replayed: whether it is a letter that was put back.
    """

    kind: Literal["lane", "tier", "dlq"]
    topic: str
    partition: int
    offset: int
    before: int = 0
    replayed: bool = False


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one task now. Times are Unix ms, 0 is unknown; the fields of a status event keep its names.

    Attributes:
        state: `pending`, `running`, `retrying`, `completed`, `failed`, `cancelled` or `expired`.
        attempt: the attempt that runs or is next; of a task that ended, the last one.
        due_ms: when a task that waits is due; 0 is at once.
        worker: who runs it, or ran it last.
        place: where its record waits, or its letter is.
        replayed_ms: when it was last put back from the DLQ.
    """

    id: str
    queue: str
    state: State
    type: str = ""
    lane: str = ""
    attempt: int = 0
    max_attempts: int = 0
    enqueued_ms: int = 0
    started_ms: int = 0
    finished_ms: int = 0
    due_ms: int = 0
    expires_ms: int = 0
    worker: str = ""
    trace_id: str = ""
    reason: str = ""
    error: ErrorInfo | None = None
    result: msgspec.Raw = _NULL
    place: Place | None = None
    replayed_ms: int = 0

    def to_json(self) -> bytes:
        """As JSON, by the names of the fields."""
        return msgspec.json.encode(self)

    def to_event(self) -> StatusEvent:
        """As a status event, for who knows only those: also of a task that is pending or running."""
        place = self.place
        return StatusEvent(
            id=self.id,
            type=self.type,
            state=self.state,
            lane=self.lane,
            attempt=self.attempt,
            max_attempts=self.max_attempts,
            enqueued_ms=self.enqueued_ms,
            started_ms=self.started_ms,
            finished_ms=self.finished_ms,
            due_ms=self.due_ms,
            worker=self.worker,
            topic=place.topic if place else "",
            partition=place.partition if place else -1,
            offset=place.offset if place else -1,
            trace_id=self.trace_id,
            reason=self.reason,
            error=self.error,
            result=self.result,
        )


class Said(msgspec.Struct, frozen=True):
    """A status event and when it was written, Unix ms."""

    event: StatusEvent
    written_ms: int


class Runs(msgspec.Struct, frozen=True):
    """A heartbeat of a worker that is alive lists the task."""

    worker: str
    task: RunningTask


class Waits(msgspec.Struct, frozen=True):
    """A record of the task in a lane or tier that is not known to be settled, and when it came there, Unix ms."""

    task: Task
    place: Place
    came_ms: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found of one task.

    Attributes:
        replayed_ms: when a letter of it was last put back, 0 if none was.
        letter_replayed: whether `letter` was put back.
    """

    said: Said | None = None
    runs: tuple[Runs, ...] = ()
    waits: tuple[Waits, ...] = ()
    letter: Letter | None = None
    letter_replayed: bool = False
    replayed_ms: int = 0

    @property
    def ended(self) -> bool:
        """Whether its last word is that the task ended, and no replay came after."""
        return self.said is not None and self.said.event.state in TERMINAL and not self.replayed

    @property
    def replayed(self) -> bool:
        """Whether it was put back after what was last said of it."""
        return self.replayed_ms > (self.said.written_ms if self.said else 0)

    def is_past(self, waits: Waits) -> bool:
        """Whether the record is older than what was last said: it is settled, and only still lies there."""
        if self.replayed:
            return not waits.task.replays
        if self.said is None:
            return False
        event, place = self.said.event, waits.place
        same = (event.topic, event.partition, event.offset) == (place.topic, place.partition, place.offset)
        return same or waits.task.attempt < event.attempt


def view(queue: str, task_id: str, facts: Facts) -> TaskView | None:
    """The task as the newest fact has it; None where there is no fact."""
    base = _said(queue, task_id, facts)
    if facts.ended:
        return base
    runs = max(
        (runs for runs in facts.runs if not _ran_before(runs, facts)), key=lambda runs: runs.task.since_ms, default=None
    )
    if runs is not None:
        return _running(queue, task_id, facts, base, runs)
    waits = _newest(facts)
    if waits is not None:
        again = base is not None and base.state == "retrying"
        state: State = "retrying" if again or waits.task.attempt > 1 else "pending"
        waiting = _waiting(queue, task_id, facts, waits, state)
        if not again or base is None:
            return waiting
        return msgspec.structs.replace(
            waiting,
            max_attempts=waiting.max_attempts or base.max_attempts,
            worker=base.worker,
            started_ms=base.started_ms,
            error=base.error,
            reason=base.reason,
        )
    if base is None and facts.letter is not None:
        return _dead(queue, facts, facts.letter)
    return base


def _letter_place(facts: Facts) -> Place | None:
    if facts.letter is None:
        return None
    record = facts.letter.record
    return Place(
        kind="dlq",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        replayed=facts.letter_replayed,
    )


def _newest(facts: Facts) -> Waits | None:
    live = [waits for waits in facts.waits if not facts.is_past(waits)]
    # Of two copies one is what the other became: more replays, then a later attempt, then the later record.
    return max(live, key=lambda waits: (waits.task.replays, waits.task.attempt, waits.came_ms), default=None)


def _ran_before(runs: Runs, facts: Facts) -> bool:
    """Whether the heartbeat is older than what was last said: it lists the attempt that this was said of."""
    if facts.said is None:
        return False
    event = facts.said.event
    record = f"{event.topic}/{event.partition}", event.offset
    return (runs.task.partition, runs.task.offset) == record or runs.task.since_ms < event.started_ms


def _said(queue: str, task_id: str, facts: Facts) -> TaskView | None:
    if facts.said is None:
        return None
    event = facts.said.event
    return TaskView(
        id=task_id,
        queue=queue,
        state=event.state,
        type=event.type,
        lane=event.lane,
        attempt=event.attempt,
        max_attempts=event.max_attempts,
        enqueued_ms=event.enqueued_ms,
        started_ms=event.started_ms,
        finished_ms=event.finished_ms,
        due_ms=event.due_ms,
        worker=event.worker,
        trace_id=event.trace_id,
        reason=event.reason,
        error=event.error,
        result=event.result,
        place=_letter_place(facts),
        replayed_ms=facts.replayed_ms,
    )


def _waiting(queue: str, task_id: str, facts: Facts, waits: Waits, state: State) -> TaskView:
    task = waits.task
    return TaskView(
        id=task_id,
        queue=queue,
        state=state,
        type=task.type,
        lane=task.lane,
        attempt=task.attempt,
        max_attempts=task.max_attempts,
        enqueued_ms=task.enqueued_ms,
        due_ms=task.not_before_ms,
        expires_ms=task.expires_ms,
        trace_id=trace_id_of(task.traceparent),
        place=waits.place,
        replayed_ms=facts.replayed_ms,
    )


def _running(queue: str, task_id: str, facts: Facts, base: TaskView | None, runs: Runs) -> TaskView:
    record = _record_of(runs, facts.waits) or _newest(facts)
    if record is not None:
        base = _waiting(queue, task_id, facts, record, "running")
    elif base is not None:
        # The record is settled meanwhile, or was not looked for: the attempt after the last one that ended.
        base = TaskView(
            id=task_id,
            queue=queue,
            state="running",
            lane=base.lane,
            attempt=1 if facts.replayed else base.attempt + 1,
            max_attempts=base.max_attempts,
            enqueued_ms=base.enqueued_ms,
            trace_id=base.trace_id,
            replayed_ms=facts.replayed_ms,
        )
    else:
        base = TaskView(id=task_id, queue=queue, state="running", attempt=1)
    return msgspec.structs.replace(
        base, type=runs.task.type, worker=runs.worker, started_ms=runs.task.since_ms, due_ms=0
    )


def _record_of(runs: Runs, waits: Sequence[Waits]) -> Waits | None:
    for one in waits:
        if (f"{one.place.topic}/{one.place.partition}", one.place.offset) == (runs.task.partition, runs.task.offset):
            return one
    return None


def _dead(queue: str, facts: Facts, letter: Letter) -> TaskView:
    error = ErrorInfo(letter.error_type, letter.error_message, letter.traceback) if letter.error_type else None
    return TaskView(
        id=letter.task_id,
        queue=queue,
        state="expired" if letter.reason == "expired" else "failed",
        type=letter.type,
        lane=letter.lane,
        attempt=letter.attempt,
        max_attempts=letter.max_attempts,
        enqueued_ms=letter.enqueued_ms,
        finished_ms=letter.died_ms,
        trace_id=letter.trace_id,
        reason=letter.reason,
        error=error,
        place=_letter_place(facts),
        replayed_ms=facts.replayed_ms,
    )
