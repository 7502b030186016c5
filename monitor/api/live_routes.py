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

from fairlane.monitor.api.serving import Served, Serving, Viewer
from fairlane.monitor.api.task_routes import TaskPage
from fairlane.monitor.store import queries
from fairlane.monitor.store.task_item import item_of

router = APIRouter(tags=["live"])

_LOOK_S: Final = 0.1
_PING_S: Final = 15.0
_NEWEST: Final = 100


@router.get(
    "/live",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events `stats` and `tasks`."}},
)
async def live(
    request: Request,
    serving: Served,
    _: Viewer,
    for_s: Annotated[float, Query(gt=0, le=86_400, description="end after so long, seconds")] = 86_400,
) -> StreamingResponse:
    """`stats` with each new snapshot, and `tasks` with those that changed, the newest hundred of them."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(request, serving, for_s), media_type="text/event-stream", headers=headers)


async def _events(request: Request, serving: Serving, for_s: float) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    ends_at, sent_at = clock() + for_s, clock()
    seen, at_ms = serving.changes.count, 0
    while clock() < ends_at and not serving.closing.is_set() and not await request.is_disconnected():
        stats = serving.look().stats
        if stats.at_ms != at_ms:
            at_ms, sent_at = stats.at_ms, clock()
            yield event("stats", stats.to_json())
        if serving.changes.count != seen:
            seen, ids = serving.changes.since(seen)
            if ids:
                sent_at = clock()
                yield event("tasks", await run_in_threadpool(_tasks, serving, ids[-_NEWEST:]))
        if clock() - sent_at > _PING_S:
            # A comment, so that proxies see that somebody is there.
            sent_at = clock()
            yield b": \n\n"
        await asyncio.sleep(_LOOK_S)


def _tasks(serving: Serving, ids: list[str]) -> bytes:
    running = serving.running
    with serving.readers.lent() as database:
        rows = queries.tasks_of(database, ids)
    return msgspec.json.encode(TaskPage(tuple(item_of(row, running.get(row.id)) for row in rows)))


def event(name: str, data: bytes) -> bytes:
    """One event; JSON has no line ends of its own."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
