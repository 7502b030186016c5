"""A new task's record as our own producers write it: its headers, and the shortest way to read them.

Invariant: the headers of such a record follow from the task, byte for byte and in their order. So a task that was read
from one keeps none of them (its form is `ours`), and `headers_of` makes them again where the record goes on. This is
what nearly every record in a lane is; one that differs in anything is read by `wire.decode`, field by field.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple

from fairlane.topics import rfc3339, task_headers
from fairlane.topics.headers import MAX_NAME, MAX_TEXT_BYTES, MAX_TRACESTATE, Headers
from fairlane.topics.task import Origin, Task

DEFAULT_SOURCE: Final = b"fairlane"
LAST_TIME_MS: Final = 253_402_300_799_999
STRUCTURED: Final = "application/cloudevents"
_VERSION: Final = ("ce_specversion", b"1.0")


def headers_of(task: Task) -> list[tuple[str, bytes]]:
    """The headers that say what the task is, and nothing of its state: a CloudEvent in binary mode."""
    headers = [_VERSION, ("ce_id", task.id.encode()), *_about(task.source, task.type, task.enqueued_ms)]
    if task.key and _is_text(task.key):
        headers.append(("ce_partitionkey", task.key))
    headers.append(_content(task.content_type))
    if task.traceparent and not task.own_trace:
        headers.append(("traceparent", task.traceparent.encode()))
        if task.tracestate:
            headers.append(("tracestate", task.tracestate.encode()))
    return headers


# What the tasks of one producer have in common is written once.


@lru_cache(maxsize=1_024)
def _about(source: str, task_type: str, enqueued_ms: int) -> tuple[tuple[str, bytes], ...]:
    """Who enqueued what, and when."""
    who_and_what = (("ce_source", source.encode() or DEFAULT_SOURCE), ("ce_type", task_type.encode()))
    if not 0 < enqueued_ms <= LAST_TIME_MS:
        return who_and_what
    return (*who_and_what, ("ce_time", rfc3339.format_ms(enqueued_ms).encode()))


@lru_cache(maxsize=1_024)
def _content(media_type: str) -> tuple[str, bytes]:
    return "content-type", media_type.encode()


class _Layout(NamedTuple):
    """Where the headers stand that not all of these records have; 0 where one has it not."""

    key: int
    content_type: int
    traceparent: int
    tracestate: int
    priority: int
    lane: int


def _layouts() -> dict[tuple[str, ...], _Layout]:
    keys = ((), ("ce_partitionkey",))
    traces = ((), ("traceparent",), ("traceparent", "tracestate"))
    lanes = ((), ("fairlane-lane",), ("fairlane-priority", "fairlane-lane"))
    found = {}
    for key, trace, lane in product(keys, traces, lanes):
        names = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", *key, "content-type", *trace, *lane)
        at = {name: place for place, name in enumerate(names)}
        found[names] = _Layout(
            at.get("ce_partitionkey", 0),
            at["content-type"],
            at.get("traceparent", 0),
            at.get("tracestate", 0),
            at.get("fairlane-priority", 0),
            at.get("fairlane-lane", 0),
        )
    return found


_LAYOUTS: Final = _layouts()


def read(
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes,
    headers: Headers,
    *,
    lane: str,
    priority: int,
) -> Task | None:
    """The task of such a record, read from a lane; None where the record is any other.

    Args:
        topic: where the record was read.
        partition: its partition.
        offset: its offset.
        key: its key.
        value: its value.
        headers: its headers; at least one.
        lane: topic of the lane.
        priority: level of the lane.

    Raises:
        MalformedRecord: the lane or the priority that it names are none.
    """
    names, values = zip(*headers, strict=True)
    layout = _LAYOUTS.get(names)
    if layout is None or None in values or values[0] != b"1.0":
        return None
    if key != (values[layout.key] if layout.key else None) and (layout.key or (key and _is_text(key))):
        return None
    try:
        task_id = values[1].decode()
        source, task_type = _text(values[2]), _name(values[3])
        content_type, enqueued_ms = _media_type(values[layout.content_type]), _time_ms(values[4])
        traceparent = values[layout.traceparent].decode() if layout.traceparent else ""
        tracestate = values[layout.tracestate].decode() if layout.tracestate else ""
    except ValueError:
        return None
    if not (source and task_type and content_type and enqueued_ms and _is_name(task_id)):
        return None
    if layout.traceparent and not task_headers.TRACEPARENT.fullmatch(traceparent):
        return None
    if layout.tracestate and not 0 < len(tracestate) <= MAX_TRACESTATE:
        return None
    if layout.lane:
        task_headers.check_lane(values[layout.lane], values[layout.priority] if layout.priority else b"0")
    return Task(
        id=task_id,
        type=task_type,
        payload=value,
        content_type=content_type,
        priority=priority,
        enqueued_ms=enqueued_ms,
        lane=lane,
        origin=Origin(topic, partition, offset),
        source=source,
        traceparent=traceparent,
        tracestate=tracestate,
        key=key,
        form="ours",
        value=value,
    )


def _is_name(text: str) -> bool:
    """Whether it is a name that needs no closer look."""
    return 0 < len(text) <= MAX_NAME and text.isascii() and text.isprintable()


# What the records of one producer have in common is looked at once; "" and 0 are for what is not as we write it.


@lru_cache(maxsize=1_024)
def _text(raw: bytes) -> str:
    return _short(raw).decode()


@lru_cache(maxsize=1_024)
def _name(raw: bytes) -> str:
    text = _short(raw).decode()
    return text if _is_name(text) else ""


@lru_cache(maxsize=1_024)
def _media_type(raw: bytes) -> str:
    text = _short(raw).decode()
    return "" if text.lower().startswith(STRUCTURED) else text


@lru_cache(maxsize=4_096)
def _time_ms(raw: bytes) -> int:
    ms = rfc3339.parse_ms(_short(raw).decode()) or 0
    return ms if ms <= LAST_TIME_MS and rfc3339.format_ms(ms).encode() == raw else 0


def _short(raw: bytes) -> bytes:
    """Raises ValueError where it is too long to be kept; an exception is not kept either."""
    if len(raw) > MAX_TEXT_BYTES:
        raise ValueError
    return raw


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True
