"""A task that ran, made into a new one that runs the same again.

Invariant: pure. The new task has type, payload, key, lane and the producer's own headers of the old one,
and the limits of its attempts. It has nothing of what became of the old one, or of when that was to run and who waited
for it: no due time, expiry, reply, attempts or trace. Its id is derived, so that whoever makes it again makes the same.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from fairlane.topics import task_headers, wire
from fairlane.topics.headers import EVENT, LINK, OWN, Headers
from fairlane.topics.ids import derived_id
from fairlane.topics.task import Task

REPLAY_OF: Final = "fairlane-replay-of"
"""The header that only a task has which runs another one again."""

_ORIGIN: Final = "fairlane-replay-origin"
_JOB: Final = "fairlane-replay-job"
_LINKS: Final = frozenset(header.name for header in LINK)
_REWRITTEN: Final = (frozenset(header.name for header in EVENT) - {"content-type", "ce_source"}) | OWN | _LINKS


def rerun(task: Task, *, job: str, began_ms: int, now_ms: int) -> Task:
    """The new task.

    Args:
        task: as `wire.decode` read it from the record in which it was first enqueued.
        job: id of the replay.
        began_ms: when that began, Unix ms; the id says so, for those who search by it.
        now_ms: when the new task is enqueued, Unix ms.
    """
    origin = str(task.origin)
    links = ((REPLAY_OF, task.id.encode()), (_ORIGIN, origin.encode()), (_JOB, job.encode()))
    kept = tuple(header for header in wire.producers_headers(task) if header[0] not in _REWRITTEN)
    is_raw = task.form == "raw"
    return Task(
        id=derived_id(f"{job}/{origin}", began_ms),
        type=task.type,
        payload=task.payload,
        content_type=task.content_type,
        priority=task.priority,
        max_attempts=task.max_attempts,
        timeout_ms=task.timeout_ms,
        enqueued_ms=now_ms,
        lane=task.lane,
        source=task.source,
        key=task.key,
        form="raw" if is_raw else "binary",
        value=task.value if is_raw else task.payload,
        headers=(*kept, *links),
    )


def headers_of(task: Task) -> Headers:
    """The headers of the record of a task that `rerun` made.

    Where nothing but the lane says the type, the record goes on leaving it to the lane.
    """
    if task.form != "raw":
        return wire.encode(task)
    headers = [*task.headers, ("ce_id", task.id.encode())]
    if task.traceparent:
        headers.append(("traceparent", task.traceparent.encode()))
        if task.tracestate:
            headers.append(("tracestate", task.tracestate.encode()))
    return [*headers, *task_headers.of_new(replace(task, lane="", priority=3))]
