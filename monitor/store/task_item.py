"""A task of the store as it is shown: one flat value of its row and of who runs it now.

Invariant: no I/O. What is told of an earlier attempt stays (its error, its worker) while the next one waits.
"""

from __future__ import annotations

import msgspec

from fairlane.monitor.stats import RunningStats
from fairlane.monitor.store.task_row import TaskRow, Told
from fairlane.topics.events import State


class Record(msgspec.Struct, frozen=True):
    """Where a record is."""

    topic: str
    partition: int
    offset: int


class TaskItem(msgspec.Struct, frozen=True, kw_only=True):
    """A task. Times are Unix ms, 0 is unknown; names as in a status event.

    Attributes:
        at_ms: when it was enqueued, as far as it is known; lists are in this order.
        key: key of its record, where it has another one than its id.
        record: its newest record in a lane or tier, settled or not.
    """

    id: str
    type: str
    state: State
    lane: str
    key: str
    at_ms: int
    attempt: int = 0
    max_attempts: int = 0
    replays: int = 0
    enqueued_ms: int = 0
    started_ms: int = 0
    finished_ms: int = 0
    due_ms: int = 0
    worker: str = ""
    trace_id: str = ""
    reason: str = ""
    error_type: str = ""
    error_message: str = ""
    record: Record | None = None


class AttemptItem(msgspec.Struct, frozen=True, kw_only=True):
    """What was told of a task after one of its attempts."""

    state: State
    attempt: int
    at_ms: int
    started_ms: int
    finished_ms: int
    due_ms: int
    worker: str
    reason: str
    error_type: str
    error_message: str


def item_of(row: TaskRow, running: RunningStats | None = None) -> TaskItem:
    """The task of a row; `running` is the newest heartbeat that lists it, if one does."""
    now, told, waiting = row.summary, row.told, row.waiting
    waits = now.state in ("pending", "retrying") and waiting is not None
    item = TaskItem(
        id=row.id,
        type=now.type,
        state=now.state,
        lane=now.lane,
        key=now.key,
        at_ms=now.at_ms,
        attempt=waiting.attempt if waits and waiting else told.attempt if told else 0,
        max_attempts=(told.max_attempts if told else 0) or (waiting.max_attempts if waiting else 0),
        replays=waiting.replays if waiting else 0,
        enqueued_ms=(waiting.enqueued_ms if waiting else 0) or (told.enqueued_ms if told else 0),
        started_ms=told.started_ms if told else 0,
        finished_ms=told.finished_ms if told else 0,
        due_ms=waiting.due_ms if waits and waiting else told.due_ms if told else 0,
        worker=told.worker if told else "",
        trace_id=(told.trace_id if told else "") or (waiting.trace_id if waiting else ""),
        reason=told.reason if told else "",
        error_type=told.error_type if told else "",
        error_message=told.error_message if told else "",
        record=Record(waiting.topic, waiting.partition, waiting.offset) if waiting else None,
    )
    if running is None or (told is not None and running.task.since_ms <= told.finished_ms):
        return item
    return msgspec.structs.replace(
        item, state="running", worker=running.worker, started_ms=running.task.since_ms, finished_ms=0, due_ms=0
    )


def attempt_of(told: Told) -> AttemptItem:
    """What was told, as it is shown."""
    return AttemptItem(
        state=told.state,
        attempt=told.attempt,
        at_ms=told.written_ms,
        started_ms=told.started_ms,
        finished_ms=told.finished_ms,
        due_ms=told.due_ms,
        worker=told.worker,
        reason=told.reason,
        error_type=told.error_type,
        error_message=told.error_message,
    )
