"""Tasks: lists by filters that are in the address, and one with all that is known of it.

Invariant: what takes a look into Kafka (content, where it is now) is a part of its own, which the page asks for once it
is there: a slow Kafka never keeps back what the store knows.
"""

from __future__ import annotations

from typing import Final, get_args

import msgspec
from fastapi import APIRouter, Request, Response

from fairlane.monitor.api import queue_routes, task_routes
from fairlane.monitor.api.parameters import Cursor, Text, Time
from fairlane.monitor.api.queue_routes import Snapshot
from fairlane.monitor.api.serving import Served, Viewer
from fairlane.monitor.api.task_routes import TaskDetail
from fairlane.monitor.dashboard.pages import page, pretty, said, utc
from fairlane.monitor.explain import explain
from fairlane.monitor.lookup import find_task
from fairlane.monitor.standing import cancel_of
from fairlane.monitor.store.content import Content
from fairlane.monitor.store.task_pages import TaskPage
from fairlane.topics.clock import now_ms
from fairlane.topics.events import TERMINAL, State

router = APIRouter()

_A_PAGE: Final = 50
_STATES: Final = get_args(State)
_SPANS: Final = {"15m": 900_000, "1h": 3_600_000, "24h": 86_400_000}


@router.get("/tasks")
def tasks(
    request: Request,
    serving: Served,
    caller: Viewer,
    id: Text = "",  # noqa: A002 - the name in the URL
    state: str = "",
    type: Text = "",  # noqa: A002
    lane: Text = "",
    key: Text = "",
    error: Text = "",
    span: str = "",
    cursor: Cursor = "",
    until_ms: Time = 0,
) -> Response:
    """Tasks that fit the filters, the newest first."""
    among: State | None = next((each for each in _STATES if each == state), None)
    asked = {
        "id": id.strip(), "state": among or "", "type": type.strip(), "lane": lane, "key": key.strip(),
        "error": error.strip(), "span": span if span in _SPANS else "", "until_ms": until_ms,
    }  # fmt: skip
    answer = task_routes.tasks(
        serving, caller, id=id.strip(), state=among, type=type.strip(), lane=lane, key=key.strip(),
        error=error.strip(), since_ms=now_ms() - _SPANS[span] if span in _SPANS else 0, until_ms=until_ms,
        limit=_A_PAGE, cursor=cursor,
    )  # fmt: skip
    return page(
        request, "tasks.html", caller, found=said(answer, TaskPage), asked=asked, cursor=cursor, states=_STATES,
        spans=list(_SPANS), lanes=[each.topic for each in serving.look().stats.lanes], now_ms=now_ms(),
    )  # fmt: skip


@router.get("/retries")
def retries(request: Request, serving: Served, caller: Viewer, cursor: Cursor = "") -> Response:
    """Tiers, and the tasks that wait in them with the times that they are due."""
    answer = task_routes.tasks(serving, caller, state="retrying", limit=_A_PAGE, cursor=cursor)
    now = said(queue_routes.stats(serving, caller), Snapshot)
    return page(
        request, "retries.html", caller, found=said(answer, TaskPage), now=now, stats=now.stats, cursor=cursor,
        now_ms=now_ms(),
    )  # fmt: skip


@router.get("/task")
def task(request: Request, serving: Served, caller: Viewer, id: Text) -> Response:  # noqa: A002
    """One task with its history."""
    found = said(task_routes.task(id, serving, caller), TaskDetail)
    trace = serving.links.of_trace(found.task.trace_id)
    return page(request, "task.html", caller, found=found, task=found.task, trace=trace)


@router.get("/task/content")
def content(request: Request, serving: Served, caller: Viewer, id: Text) -> Response:  # noqa: A002
    """Payload, headers, result and traceback."""
    found = said(task_routes.content(id, serving, caller), Content)
    result = pretty(msgspec.json.encode(found.result).decode()) if found.result is not None else ""
    return page(request, "content.html", caller, content=found, result=result)


@router.get("/task/where")
def where(request: Request, serving: Served, caller: Viewer, id: Text) -> Response:  # noqa: A002
    """Where it is now, what holds it, and when it should start."""
    at = now_ms()
    view = find_task(serving.connection, serving.names, id, now_ms=at, timeout_s=serving.timeout_s)
    cancel = None
    if view.state not in TERMINAL:
        cancel = cancel_of(serving.connection, serving.names, view, at, timeout_s=serving.timeout_s)
    told = explain(view, serving.look().stats, at, cancel, utc)
    return page(request, "where.html", caller, told=told, now_ms=at)
