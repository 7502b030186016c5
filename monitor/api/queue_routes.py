"""The queue itself: numbers, lanes, tiers, workers, what ended when, and how far the store is.

Invariant: the numbers of the moment are those of `fairlane monitor`, of one snapshot a second for all who ask.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from fairlane.monitor.api.answers import answers, said
from fairlane.monitor.api.parameters import Cursor, Limit, Text, Time
from fairlane.monitor.api.serving import Served, Viewer
from fairlane.monitor.live import note
from fairlane.monitor.stats import Stats, TopicStats, WorkerStats
from fairlane.monitor.store import queries
from fairlane.monitor.store.counted import Counted, counted
from fairlane.monitor.store.queries import MinuteItem
from fairlane.topics.audit import AuditRecord
from fairlane.topics.clock import now_ms

router = APIRouter(tags=["queue"])

_HOUR_MS = 3_600_000


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The queue now, and what the store holds; `note` says that the numbers are old, and why."""

    stats: Stats
    stored: Counted
    note: str = ""


class TopicList(msgspec.Struct, frozen=True):
    """Lanes or tiers, with what waits in them."""

    topics: tuple[TopicStats, ...]


class WorkerList(msgspec.Struct, frozen=True):
    """Workers, as their newest heartbeats have them."""

    workers: tuple[WorkerStats, ...]


class Minutes(msgspec.Struct, frozen=True):
    """What ended, by minute, type, lane and state."""

    minutes: tuple[MinuteItem, ...]


class AuditPage(msgspec.Struct, frozen=True):
    """Who did what, the newest first; `next` is the cursor of the next page, or ""."""

    records: tuple[AuditRecord, ...]
    next: str = ""


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """How far the store is. `problem` is why it does not get on, or ""."""

    caught_up: bool
    records: int
    rows: int
    forgotten: int
    written_ms: int
    problem: str = ""


@router.get("/stats", responses=answers(Snapshot))
def stats(serving: Served, _: Viewer) -> Response:
    """All numbers of the queue now."""
    look = serving.look()
    with serving.readers.lent() as database:
        stored = counted(database)
    return said(Snapshot(stats=look.stats, stored=stored, note=note(look, now_ms(), 1.0)))


@router.get("/lanes", responses=answers(TopicList))
def lanes(serving: Served, _: Viewer) -> Response:
    """The lanes, the most urgent first."""
    return said(TopicList(serving.look().stats.lanes))


@router.get("/tiers", responses=answers(TopicList))
def tiers(serving: Served, _: Viewer) -> Response:
    """The tiers, the shortest first."""
    return said(TopicList(serving.look().stats.tiers))


@router.get("/workers", responses=answers(WorkerList))
def workers(serving: Served, _: Viewer) -> Response:
    """The workers that are alive or were lost in the last minutes."""
    return said(WorkerList(serving.look().stats.workers))


@router.get("/minutes", responses=answers(Minutes))
def minutes(
    serving: Served,
    _: Viewer,
    since_ms: Annotated[int | None, Query(ge=0, lt=2**53, description="an hour ago by default")] = None,
    until_ms: Time = 2**53 - 1,
) -> Response:
    """What ended between two times."""
    since = now_ms() - _HOUR_MS if since_ms is None else since_ms
    with serving.readers.lent() as database:
        return said(Minutes(queries.minutes(database, since, until_ms)))


@router.get("/audit", responses=answers(AuditPage, 400))
def audit(
    serving: Served, _: Viewer, task_id: Text = "", letter: Text = "", limit: Limit = 50, cursor: Cursor = ""
) -> Response:
    """Who did what."""
    with serving.readers.lent() as database:
        found = queries.audit(database, limit=limit, cursor=cursor, task_id=task_id, letter=letter)
    return said(AuditPage(*found))


@router.get("/store", responses=answers(StoreState))
def store(serving: Served, _: Viewer) -> Response:
    """How far the store is."""
    progress = serving.progress
    return said(
        StoreState(
            caught_up=progress.caught_up,
            records=progress.records,
            rows=progress.rows,
            forgotten=progress.forgotten,
            written_ms=progress.written_ms,
            problem=progress.problem,
        )
    )
