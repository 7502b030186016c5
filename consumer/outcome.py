"""Outcomes: the value that an attempt led to. The outcome first, its effects second, in two different places.

Invariant: an outcome is frozen and complete: `settle_records` makes every record of it without asking anybody. Its
traceparent is the one of the attempt's own span, for the settlement to link to.

Terminal: Completed, Dead, Expired, Cancelled, Malformed. Not terminal: Retrying (an attempt failed), Deferred (not due,
moved on to a tier) and HandedBack (a shutdown took it away unfinished), which are the same task again, later; and Moved
(its record held back a partition), which is the same task in another place while its attempt goes on.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fairlane.consumer.delivery import Assigned, Delivery, Unreadable
from fairlane.topics.events import ErrorInfo, Reason
from fairlane.topics.task import Task


class OutboxRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that a handler sends through its context, written only if its attempt succeeds."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Completed(msgspec.Struct, frozen=True, gc=False):
    """The handler returned; `result` is its JSON."""

    delivery: Delivery
    started_ms: int
    finished_ms: int
    result: bytes
    outbox: tuple[OutboxRecord, ...] = ()
    traceparent: str = ""


class Retrying(msgspec.Struct, frozen=True, gc=False):
    """The attempt failed and another follows; `task` is what goes to the tier, with the next attempt and due time.

    It is `overloaded` where the exception means that what the handler uses is (`Adaptive.overload`).
    """

    delivery: Delivery
    started_ms: int
    finished_ms: int
    task: Task
    error: ErrorInfo
    traceparent: str = ""
    overloaded: bool = False


class Dead(msgspec.Struct, frozen=True, gc=False):
    """No further attempt: the record goes to the DLQ with the reason; `overloaded` as for Retrying."""

    delivery: Delivery
    started_ms: int
    finished_ms: int
    reason: Reason
    error: ErrorInfo | None = None
    traceparent: str = ""
    overloaded: bool = False


class Expired(msgspec.Struct, frozen=True, gc=False):
    """It was not started before it expired; the record goes to the DLQ with the reason `expired`."""

    delivery: Delivery
    finished_ms: int
    traceparent: str = ""


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """An operator cancelled it: before it began (then `started_ms` is 0), or while it ran. It failed nobody, so there
    is no letter of it.
    """

    delivery: Delivery
    started_ms: int
    finished_ms: int
    reason: str = ""
    traceparent: str = ""


class Deferred(msgspec.Struct, frozen=True, gc=False):
    """It is not due yet, or goes to another lane or to the end of its own: on it goes, at no attempt's cost."""

    delivery: Delivery
    finished_ms: int


class HandedBack(msgspec.Struct, frozen=True, gc=False):
    """A shutdown took it from its handler: back into its lane, at no attempt's cost."""

    delivery: Delivery
    finished_ms: int
    traceparent: str = ""


class Moved(msgspec.Struct, frozen=True, gc=False):
    """Its record holds back its partition: a copy in a partition of ours stands for it, and its attempt goes on."""

    delivery: Delivery
    finished_ms: int
    target: Assigned


class Malformed(msgspec.Struct, frozen=True, gc=False):
    """The record is no task: to the DLQ, byte for byte, with what is wrong with it."""

    delivery: Unreadable
    problem: str
    finished_ms: int


Outcome = Completed | Retrying | Dead | Expired | Cancelled | Deferred | HandedBack | Moved | Malformed
OUTCOMES: Final = (Completed, Retrying, Dead, Expired, Cancelled, Deferred, HandedBack, Moved, Malformed)
"""For `isinstance`: the most frequent one first."""
TERMINAL_OUTCOMES: Final = (Completed, Dead, Expired, Cancelled)
"""Those that end a task."""


def traceparent_of(outcome: Outcome) -> str:
    """The span of the attempt, "" where none was recorded."""
    return "" if isinstance(outcome, Deferred | Moved | Malformed) else outcome.traceparent


def size_of(outcome: Outcome) -> int:
    """What the outcome is counted as while it waits to be settled, bytes."""
    size_bytes = outcome.delivery.size_bytes
    if isinstance(outcome, Completed):
        size_bytes += len(outcome.result)
        for record in outcome.outbox:
            size_bytes += len(record.value or b"") + len(record.key or b"")
    return size_bytes
