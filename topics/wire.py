"""A record and its headers, read as a task and written again: the wire format of a queue.

Invariant: any bytes are a Task or a MalformedRecord, never anything else. What a producer wrote (key, value, and all
headers that are not fairlane's own, in their order) is on the record of every hop, byte for byte; fairlane's own
headers are written anew from the Task, so that nothing about it is lost.

A record says in one of three forms that it is a task: as CloudEvent in binary mode (`ce_type` header), as CloudEvent
in structured mode (content type `application/cloudevents+json`), or as bare JSON `{"type": …, "payload": …}`. In a lane
with a default type (a foreign topic) a record that says nothing is a task too, with its value as payload.

Sources: CloudEvents 1.0 Kafka protocol binding, W3C Trace Context, RFC 3339 (times), RFC 9562 (UUIDv7).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from msgspec.structs import replace

from fairlane.topics import new_record, rfc3339, task_headers
from fairlane.topics.bodies import JSON, Said, read_bare, read_bare_only, read_structured
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.headers import EVENT, MAX_HEADERS, MAX_NAME, MAX_TEXT_BYTES, MAX_TRACESTATE, OWN, Headers
from fairlane.topics.ids import made_at_ms
from fairlane.topics.letters import dead_letter, replay
from fairlane.topics.task import Form, Origin, Task
from fairlane.topics.task_headers import TRACEPARENT, text_of

__all__ = ["Headers", "dead_letter", "decode", "encode", "encoder", "hop", "producers_headers", "replay"]

_EVENT_NAMES: Final = frozenset({"ce_specversion", "ce_type", "ce_id", "ce_source"})
_TRACE_NAMES: Final = (("traceparent", "tracestate"), ("ce_traceparent", "ce_tracestate"))
_TRACES: Final = frozenset(name for name, _ in _TRACE_NAMES)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_EVENT_HEADERS: Final = frozenset(header.name for header in EVENT)


def decode(
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    key: bytes | None,
    value: bytes,
    headers: Headers | None,
    *,
    lane: str | None,
    priority: int,
    default_type: str | None = None,
) -> Task:
    """The task that a record is.

    Args:
        topic: where the record was read.
        partition: its partition.
        offset: its offset.
        timestamp_ms: Kafka's timestamp of it, Unix ms.
        key: its key.
        value: its value; a null value is a tombstone, which the caller skips.
        headers: its headers, None where it has none.
        lane: topic of the lane that it was read from; None where it was read from a tier, then `fairlane-lane` tells.
        priority: level of that lane; read from a tier, the level of a task whose `fairlane-priority` is missing.
        default_type: type of records that name none; None where a record has to name one.

    Raises:
        MalformedRecord: it is no task; the problem says why.
    """
    if headers and lane is not None:
        ours = new_record.read(topic, partition, offset, key, value, headers, lane=lane, priority=priority)
        if ours is not None:
            return ours
    found = _by_name(headers) if headers else {}
    foreign = tuple(headers) if headers else ()
    own: dict[str, Any] = {}
    if not OWN.isdisjoint(found):
        own = _own(found, in_lane=lane is not None)
        foreign = tuple([header for header in foreign if header[0] not in OWN])
    if lane is None and "lane" not in own:
        raise MalformedRecord("fairlane-lane is missing: a record in a tier has to name its lane")
    form, said = _say(found, value, default_type)
    origin = own.get("origin") or Origin(topic, partition, offset)
    task_id = said.id or str(origin)
    if not (0 < len(task_id) <= MAX_NAME and task_id.isascii() and task_id.isprintable()):
        _check_name(task_id, "id")
    traceparent, tracestate = _trace(found, said) if said.traceparent or not _TRACES.isdisjoint(found) else ("", "")
    task = Task(
        id=task_id,
        type=_name_of_type(said.type),
        payload=said.payload,
        content_type=said.content_type,
        priority=priority,
        # A time that cannot be read is no reason to refuse the work.
        enqueued_ms=_time_ms(said.time) or made_at_ms(task_id) or max(timestamp_ms, 0),
        lane=lane or "",
        origin=origin,
        source=said.source,
        traceparent=traceparent,
        tracestate=tracestate,
        key=key,
        form=form,
        value=value,
        headers=foreign,
    )
    if not own:
        return task
    if "traceparent" in own:
        if traceparent:
            del own["traceparent"]
        else:
            own["own_trace"] = True
    # Most records are new and have none: giving `**own` to Task would cost all of them 0.4 µs.
    return replace(task, **own)


def _by_name(headers: Headers) -> dict[str, bytes | None]:
    if len(headers) > MAX_HEADERS:
        raise MalformedRecord(f"it has {len(headers)} headers, more than {MAX_HEADERS}")
    return dict(headers)


def _time_ms(text: str) -> int | None:
    """A time that is not too long to be kept; None where it is none."""
    return rfc3339.parse_ms(text) if 0 < len(text) <= MAX_NAME else None


def _own(found: Mapping[str, bytes | None], *, in_lane: bool) -> dict[str, Any]:
    """The fields that fairlane's own headers give, without those of which the record says more itself."""
    own = task_headers.read(found)
    if in_lane:
        own.pop("lane", None)
        own.pop("priority", None)
    if not own.get("enqueued_ms"):
        own.pop("enqueued_ms", None)
    return own


def _say(found: Mapping[str, bytes | None], value: bytes, default_type: str | None) -> tuple[Form, Said]:
    """In which form the record says that it is a task, and what it says."""
    raw = found.get("content-type")
    content_type = _text("content-type", raw) if raw else ""
    if "fairlane-type" in found:
        return "raw", _binary(found, text_of(found, "fairlane-type"), value, content_type)
    if content_type[:23].lower() == new_record.STRUCTURED:
        return "structured", read_structured(value, content_type)
    task_type = found.get("ce_type")
    if task_type:
        return "binary", _binary(found, _text("ce_type", task_type), value, content_type)
    is_event = not _EVENT_NAMES.isdisjoint(found)
    if default_type is not None:
        bare = None if is_event else read_bare_only(value)
        return ("bare", bare) if bare else ("raw", _binary(found, default_type, value, content_type))
    if is_event:
        raise MalformedRecord("ce_type is missing: it is what names the task's type")
    return "bare", read_bare(value)


def _binary(found: Mapping[str, bytes | None], task_type: str, value: bytes, content_type: str) -> Said:
    get = found.get
    version = get("ce_specversion")
    if version and version != b"1.0":
        raise MalformedRecord(f"ce_specversion is {version[:30]!r}, not 1.0")
    source, time = get("ce_source"), get("ce_time")
    return Said(
        task_type,
        value,
        text_of(found, "ce_id"),
        _text("ce_source", source) if source else "",
        # Of many tasks that are enqueued together, many are so in the same millisecond.
        _text("ce_time", time) if time and len(time) <= MAX_NAME else "",
        content_type or JSON,
    )


@lru_cache(maxsize=1_024)
def _text(name: str, raw: bytes) -> str:
    """A header that says the same on many records, as text."""
    if len(raw) > MAX_TEXT_BYTES:
        raise MalformedRecord(f"{name} has {len(raw)} bytes, more than {MAX_TEXT_BYTES}")
    return text_of({name: raw}, name)


@lru_cache(maxsize=1_024)
def _name_of_type(text: str) -> str:
    """The type, checked; one object for all that are equal."""
    _check_name(text, "type")
    return text


def _check_name(text: str, name: str) -> None:
    """Ids and types go into status events, log lines and terminals."""
    if not 0 < len(text) <= MAX_NAME:
        raise MalformedRecord(f"the {name} has {len(text)} characters, not 1 to {MAX_NAME}")
    if not (text.isascii() and text.isprintable()) and _CONTROL.search(text):
        raise MalformedRecord(f"the {name} is {text[:60]!r}, which has control characters")


def _trace(found: Mapping[str, bytes | None], said: Said) -> tuple[str, str]:
    """The first valid traceparent, and the tracestate beside it; a broken one is no reason to refuse the work."""
    for name, state_name in _TRACE_NAMES:
        raw = found.get(name)
        if raw:
            parent = raw.decode("utf-8", "replace")
            if TRACEPARENT.fullmatch(parent):
                state = found.get(state_name)
                return parent, state.decode("utf-8", "replace") if state and len(state) <= MAX_TRACESTATE else ""
    if said.traceparent and TRACEPARENT.fullmatch(said.traceparent):
        return said.traceparent, said.tracestate if len(said.tracestate) <= MAX_TRACESTATE else ""
    return "", ""


def encode(task: Task) -> list[tuple[str, bytes]]:
    """Headers of a new record of a task, whose value is its payload: a CloudEvent in binary mode.

    The task's `headers` (baggage of a middleware, say) come after, except those that are written from its fields.
    """
    headers = new_record.headers_of(task)
    headers += task_headers.of_new(task)
    if task.enqueued_ms > new_record.LAST_TIME_MS:
        headers.append(task_headers.enqueued_ms(task))
    if task.headers:
        written = {name for name, _ in headers} | _EVENT_HEADERS | OWN
        headers += [(name, value or b"") for name, value in task.headers if name not in written]
    return headers


def encoder(like: Task) -> Callable[[Task], list[tuple[str, bytes]]]:
    """What `encode` does, at a third of its cost, for tasks that differ from `like` in id, payload and value only."""
    version, _, *rest = encode(like)
    return lambda task: [version, ("ce_id", task.id.encode()), *rest]


def hop(task: Task) -> list[tuple[str, bytes | None]]:
    """Headers of the same record on its next hop (tier, lane): the producer's, and the state of the task as it is now.

    The task is one that `decode` gave, perhaps changed: its key and value go with these headers.
    """
    return [*producers_headers(task), *task_headers.write(task)]


def producers_headers(task: Task) -> Headers:
    """What the producer wrote on the record that `decode` gave the task of: all headers but fairlane's own."""
    return new_record.headers_of(task) if task.form == "ours" else task.headers
