"""A dead letter as people want to see it: which task it was, why it is dead, and where it came from.

Invariant: any record of the DLQ is a letter, also one that somebody else wrote there: what cannot be read is empty, and
nothing raises. Key, value and headers are as they are on the record.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fairlane.monitor.record import Record
from fairlane.topics import wire
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.events import StatusEvent
from fairlane.topics.headers import MAX_DIGITS
from fairlane.topics.task import Origin
from fairlane.topics.task_headers import TRACEPARENT


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One record of the DLQ.

    Attributes:
        record: the record itself.
        task_id: id of its task; of a record that is no task, what it says, else its origin.
        type: type of its task, or "".
        payload: payload of its task; the whole value of a record that is no task.
        content_type: media type of the payload.
        reason: why it is dead.
        lane: topic of the lane that it belongs to, or "".
        priority: level of its task; 0 if it is not known.
        origin: where its task was first enqueued, or "".
        original: where the record was when it died, or None.
        died_ms: when it was given up, Unix ms.
        traceparent: W3C trace context in which its task was created, or "".
        tracestate: W3C trace state, or "".
    """

    record: Record
    task_id: str = ""
    type: str = ""
    payload: bytes = b""
    content_type: str = ""
    reason: str = ""
    error_type: str = ""
    error_message: str = ""
    traceback: str = ""
    attempt: int = 0
    max_attempts: int = 0
    replays: int = 0
    lane: str = ""
    priority: int = 0
    origin: str = ""
    original: Origin | None = None
    enqueued_ms: int = 0
    first_failed_ms: int = 0
    died_ms: int = 0
    traceparent: str = ""
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """Id of the trace of its task, or ""."""
        return trace_id_of(self.traceparent)

    @property
    def error(self) -> str:
        """`ErrorType: message`, as far as there are both."""
        return error_of(self.error_type, self.error_message)

    @property
    def place(self) -> str:
        """`topic/partition/offset`: its name, and the key of its audit records."""
        return self.record.place

    def is_of(self, event: StatusEvent) -> bool:
        """Whether it is the letter of the death that the event tells of: both name the record that died."""
        died = self.original
        return died is not None and (died.topic, died.partition, died.offset) == (
            event.topic, event.partition, event.offset,
        )  # fmt: skip


def error_of(error_type: str, message: str) -> str:
    """`ErrorType: message`, as far as there are both."""
    return f"{error_type}: {message}" if message else error_type


def letter_of(record: Record) -> Letter:
    """The letter that a record of the DLQ is."""
    found = dict(record.headers)
    try:
        task = wire.decode(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp_ms,
            record.key,
            record.value or b"",
            record.headers,
            lane=None,
            priority=0,
        )
    except MalformedRecord:
        task = None
    origin = _text(found, "fairlane-origin")
    return Letter(
        record=record,
        task_id=task.id if task else _text(found, "ce_id") or origin or record.place,
        type=task.type if task else _text(found, "fairlane-type") or _text(found, "ce_type"),
        payload=task.payload if task else record.value or b"",
        content_type=task.content_type if task else _text(found, "content-type"),
        reason=_text(found, "fairlane-reason"),
        error_type=_text(found, "fairlane-error-type"),
        error_message=_text(found, "fairlane-error-message"),
        traceback=_text(found, "fairlane-traceback"),
        attempt=_number(found, "fairlane-attempt"),
        max_attempts=_number(found, "fairlane-max-attempts"),
        replays=_number(found, "fairlane-replays"),
        lane=_text(found, "fairlane-lane"),
        priority=_number(found, "fairlane-priority"),
        origin=origin,
        original=_original(found),
        enqueued_ms=task.enqueued_ms if task else 0,
        first_failed_ms=_number(found, "fairlane-first-failed-ms"),
        died_ms=_number(found, "fairlane-last-failed-ms") or record.timestamp_ms,
        traceparent=task.traceparent if task else _traceparent(found),
        tracestate=task.tracestate if task else "",
    )


def trace_id_of(traceparent: str) -> str:
    """The trace id of a W3C traceparent, or ""."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) >= 4 and len(parts[1]) == 32 else ""


def _text(found: Mapping[str, bytes | None], name: str) -> str:
    return (found.get(name) or b"").decode("utf-8", "replace")


def _traceparent(found: Mapping[str, bytes | None]) -> str:
    text = _text(found, "traceparent")
    return text if TRACEPARENT.fullmatch(text) else ""


def _number(found: Mapping[str, bytes | None], name: str) -> int:
    raw = found.get(name) or b""
    return int(raw) if raw.isdigit() and len(raw) <= MAX_DIGITS else 0


def _original(found: Mapping[str, bytes | None]) -> Origin | None:
    topic, partition, offset = (_text(found, f"fairlane-original-{name}") for name in ("topic", "partition", "offset"))
    try:
        return Origin.parse(f"{topic}/{partition}/{offset}")
    except MalformedRecord:
        return None
