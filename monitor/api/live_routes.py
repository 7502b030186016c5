"""Live data as server-sent events.

Invariant: who reads slowly loses intermediate states, never the newest: each event is made when there is room for it,
of what is so then.

Source: HTML Living Standard, section 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from fairlane.monitor.api.letter_routes import JobList
from fairlane.monitor.api.parameters import Text, Time, Words
from fairlane.monitor.api.serving import Served, Serving, Viewer
from fairlane.monitor.store.queries import TaskQuestion
from fairlane.monitor.store.task_pages import TaskPage, page_of
from fairlane.topics.events import State

router = APIRouter(tags=["live"])

_LOOK_S: Final = 0.1
_PING_S: Final = 15.0
_NEWEST: Final = 100


@router.get(
    "/live",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events `stats`, `tasks` and `jobs`."}},
)
async def live(
    request: Request,
    serving: Served,
    _: Viewer,
    id: Text = "",  # noqa: A002 - the name in the URL
    state: State | None = None,
    type: Text = "",  # noqa: A002
    lane: Text = "",
    key: Text = "",
    error: Words = "",
    since_ms: Time = 0,
    until_ms: Time = 0,
    for_s: Annotated[float, Query(gt=0, le=86_400, description="end after so long, seconds")] = 86_400,
) -> StreamingResponse:
    """`stats` with each new snapshot, `tasks` with those that changed or started and fit (a hundred), `jobs`."""
    asked = TaskQuestion(
        id=id, state=state, type=type, lane=lane, key=key, error=error, since_ms=since_ms, until_ms=until_ms
    )
    # From the moment on at which it is asked, not from when the first of it is sent.
    seen, running = serving.changes.count, set(serving.running)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _events(request, serving, asked, for_s, seen, running), media_type="text/event-stream", headers=headers
    )


async def _events(
    request: Request, serving: Serving, asked: TaskQuestion, for_s: float, seen: int, running: set[str]
) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    ends_at, sent_at = clock() + for_s, clock()
    at_ms, jobs = 0, serving.jobs.all()
    while clock() < ends_at and not serving.closing.is_set() and not await request.is_disconnected():
        stats, ids = serving.look().stats, list[str]()
        if stats.at_ms != at_ms:
            at_ms, sent_at = stats.at_ms, clock()
            yield event("stats", stats.to_json())
            before, running = running, set(serving.running)
            ids += running - before
        if serving.changes.count != seen:
            seen, changed = serving.changes.since(seen)
            ids += changed
        if ids and (page := await run_in_threadpool(_tasks, serving, asked, ids)).tasks:
            sent_at = clock()
            yield event("tasks", msgspec.json.encode(page))
        if (now := serving.jobs.all()) != jobs:
            jobs, sent_at = now, clock()
            yield event("jobs", msgspec.json.encode(JobList(jobs)))
        if clock() - sent_at > _PING_S:
            # A comment, so that proxies see that somebody is there.
            sent_at = clock()
            yield b": \n\n"
        await asyncio.sleep(_LOOK_S)


def _tasks(serving: Serving, asked: TaskQuestion, ids: list[str]) -> TaskPage:
    with serving.readers.lent() as database:
        return page_of(database, asked, serving.running, limit=_NEWEST, among=ids)


def event(name: str, data: bytes) -> bytes:
    """One event; JSON has no line ends of its own."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
