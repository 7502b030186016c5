"""What one record of a topic says, as the store keeps it.

Invariant: pure functions of the record; what anybody else wrote there, and what is no task, says nothing and raises
nothing.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import Message

from fairlane.monitor.letter import Letter, trace_id_of
from fairlane.monitor.store.task_row import FORGOTTEN, Told, Waiting
from fairlane.topics import record_headers, wire
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.events import StatusEvent, decode_status
from fairlane.topics.names import Lane

MAX_TEXT: Final = 4_096
"""Characters of an error that are kept; what fairlane itself writes is shorter."""


def told_by_status(message: Message) -> tuple[str, Told] | None:
    """The task and what a record of the status topic says of it."""
    value = message.value()
    event = decode_status(value) if value is not None else None
    if event is None or not event.id:
        return None
    return event.id, told_by_event(event, message.offset() or 0, message.timestamp()[1], message.partition() or 0)


def told_by_event(event: StatusEvent, offset: int, written_ms: int, partition: int) -> Told:
    """The event, with where and when it was written."""
    error = event.error
    # By place, which costs a third of what it costs by name.
    return Told(
        offset,
        written_ms,
        partition,
        event.state,
        event.type,
        event.lane,
        event.attempt,
        event.max_attempts,
        event.enqueued_ms,
        event.started_ms,
        event.finished_ms,
        event.due_ms,
        event.worker,
        event.topic,
        event.partition,
        event.offset,
        event.trace_id,
        event.reason,
        error.type[:MAX_TEXT] if error else "",
        error.message[:MAX_TEXT] if error else "",
    )


def told_by_letter(letter: Letter) -> Told:
    """What a dead letter says of its task, for where the event is forgotten."""
    original = letter.original
    return Told(
        FORGOTTEN,
        letter.record.timestamp_ms,
        letter.record.partition,
        "expired" if letter.reason == "expired" else "failed",
        letter.type,
        letter.lane,
        letter.attempt,
        letter.max_attempts,
        letter.enqueued_ms,
        0,
        letter.died_ms,
        0,
        "",
        original.topic if original else "",
        original.partition if original else -1,
        original.offset if original else -1,
        letter.trace_id,
        letter.reason,
        letter.error_type[:MAX_TEXT],
        letter.error_message[:MAX_TEXT],
    )


def waiting_in(message: Message, lane: Lane | None, default_type: str | None) -> tuple[str, Waiting] | None:
    """The task that a record of a lane is, or of a tier where `lane` is None.

    Args:
        message: the record.
        lane: the lane that it was read from.
        default_type: type of a record that names none.
    """
    value = message.value()
    if value is None:
        return None
    topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
    written_ms, key = message.timestamp()[1], message.key()
    try:
        task = wire.decode(
            topic,
            partition,
            offset,
            written_ms,
            key,
            value,
            record_headers.headers_of(message),
            lane=lane.topic if lane else None,
            priority=lane.level if lane else 0,
            default_type=default_type,
        )
    except MalformedRecord:
        return None
    key_text = key.decode("utf-8", "replace")[:MAX_TEXT] if key else ""
    return task.id, Waiting(
        task.replays,
        task.attempt,
        written_ms,
        topic,
        partition,
        offset,
        task.type,
        task.lane,
        "" if key_text == task.id else key_text,
        task.max_attempts,
        task.enqueued_ms,
        task.not_before_ms,
        task.expires_ms,
        task.handbacks,
        trace_id_of(task.traceparent) if task.traceparent else "",
    )
