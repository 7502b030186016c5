"""fairlane's own headers of a task, read and written: the state that a task carries from hop to hop.

Invariant: `read` takes what `write` made back into the same fields (a number beyond MAX_NUMBER as that); a value that
`write` would not make is refused by the header's name rather than guessed at, since a wrong attempt or due time would
be worse than a dead letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

from fairlane.topics.errors import MalformedRecord
from fairlane.topics.headers import MAX_DIGITS, MAX_NUMBER, NUMBERS
from fairlane.topics.names import DEFAULT_LEVEL
from fairlane.topics.task import Origin, Task

_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_REPLY_TO: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}:[0-9]{1,9}")
TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,200})?"
)
"""W3C Trace Context, section 3.2.2; a later version may go on after a dash, here by 200 characters."""

VERSION: Final = b"1"
"""Of these headers. It is what a record has that does not name one, so none of ours does."""

_PRIORITY: Final = ("fairlane-priority", "priority", 0)
_ROWS: Final[Sequence[tuple[str, str, int]]] = NUMBERS
_OF_NEW: Final = tuple(row for row in _ROWS if row[1] != "enqueued_ms")
_numbers_of: Final = attrgetter(*(field for _, field, _ in NUMBERS))
_state_of_new: Final = attrgetter("priority", "lane", "reply_to", *(field for _, field, _ in _OF_NEW))


def text_of(found: Mapping[str, bytes | None], name: str) -> str:
    """A header as text, "" where it is missing or null.

    Raises:
        MalformedRecord: it is no UTF-8.
    """
    raw = found.get(name)
    if not raw:
        return ""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise MalformedRecord(f"{name} is {raw[:60]!r}, which is no UTF-8") from None


def number(raw: bytes | None, name: str, least: int) -> int:
    """A header as whole number.

    Raises:
        MalformedRecord: it is none, is below `least`, or has more than MAX_DIGITS digits.
    """
    # bytes.isdigit is about ASCII only, and the length bounds what int() has to read.
    if raw and len(raw) <= MAX_DIGITS and raw.isdigit():
        value = int(raw)
        if value >= least:
            return value
    shown = raw[:30] if raw else raw
    raise MalformedRecord(f"{name} is {shown!r}, not a whole number from {least} on with at most {MAX_DIGITS} digits")


def read(found: Mapping[str, bytes | None]) -> dict[str, Any]:
    """Fields of a Task by name, of the headers that are there.

    Raises:
        MalformedRecord: a value is not of its header's form; the problem names the header.
    """
    fields: dict[str, Any] = {}
    if "fairlane-version" in found:
        _check_version(found["fairlane-version"])
    for name, field, least in (_PRIORITY, *NUMBERS):
        if name in found:
            fields[field] = number(found[name], name, least)
    if "fairlane-origin" in found:
        fields["origin"] = Origin.parse(text_of(found, "fairlane-origin"))
    if "fairlane-lane" in found:
        fields["lane"] = _matching(_TOPIC, found, "fairlane-lane", "the name of a topic")
    if "fairlane-traceparent" in found:
        fields["traceparent"] = _matching(TRACEPARENT, found, "fairlane-traceparent", "a W3C traceparent")
    if "fairlane-reply-to" in found:
        fields["reply_to"] = _matching(_REPLY_TO, found, "fairlane-reply-to", "topic:partition")
    return fields


def _check_version(raw: bytes | None) -> None:
    if raw != VERSION:
        shown = raw[:30] if raw else raw
        raise MalformedRecord(
            f"fairlane-version is {shown!r}, not {VERSION!r}: a newer fairlane wrote this record. "
            "Upgrade the workers of the queue, then put it back with `fairlane dlq replay`"
        )


def _matching(pattern: re.Pattern[str], found: Mapping[str, bytes | None], name: str, form: str) -> str:
    text = text_of(found, name)
    if not pattern.fullmatch(text):
        raise MalformedRecord(f"{name} is {text[:100]!r}, not {form}")
    return text


@lru_cache(maxsize=1_024)
def check_lane(lane: bytes | None, priority: bytes | None) -> None:
    """Check the two headers that say where a record belongs, for one of which nothing else is asked.

    Raises:
        MalformedRecord: a value is not of its header's form; the problem names the header.
    """
    read({"fairlane-lane": lane, "fairlane-priority": priority})


def of_new(task: Task) -> tuple[tuple[str, bytes], ...]:
    """A task's own headers on its first record: what differs from the defaults. `ce_time` says when it was enqueued."""
    return _of_new(_state_of_new(task))


@lru_cache(maxsize=1_024)
def _of_new(state: tuple[Any, ...]) -> tuple[tuple[str, bytes], ...]:
    """Most tasks of one producer have the same."""
    priority, lane, reply_to, *numbers = state
    headers = [("fairlane-priority", b"%d" % priority)] if priority != DEFAULT_LEVEL else []
    if lane:
        headers.append(("fairlane-lane", lane.encode()))
    if reply_to:
        headers.append(("fairlane-reply-to", reply_to.encode()))
    return (*headers, *_written(_OF_NEW, numbers))


def enqueued_ms(task: Task) -> tuple[str, bytes]:
    """When it was enqueued, as a header of its first record where `ce_time` cannot say it."""
    return "fairlane-enqueued-ms", b"%d" % min(task.enqueued_ms, MAX_NUMBER)


def _written(rows: Iterable[tuple[str, str, int]], values: Iterable[int]) -> list[tuple[str, bytes]]:
    """The counts and times that differ from their defaults."""
    return [
        (name, b"%d" % min(value, MAX_NUMBER))
        for (name, _, least), value in zip(rows, values, strict=True)
        if value != least
    ]


def write(task: Task) -> list[tuple[str, bytes]]:
    """All of a task's own headers, for the next hop of its record: its origin and its lane always."""
    headers = [
        ("fairlane-priority", b"%d" % task.priority),
        ("fairlane-lane", task.lane.encode()),
        ("fairlane-origin", str(task.origin).encode()),
    ]
    if task.form == "raw":
        headers.append(("fairlane-type", task.type.encode()))
    if task.own_trace:
        headers.append(("fairlane-traceparent", task.traceparent.encode()))
    if task.reply_to:
        headers.append(("fairlane-reply-to", task.reply_to.encode()))
    return headers + _written(NUMBERS, _numbers_of(task))
