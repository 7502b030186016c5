"""The queue as a whole: its overview, its topics, its workers.

Invariant: the numbers are those of `fairlane monitor`; what ended in the last minutes is the store's.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from fairlane.monitor.api import queue_routes
from fairlane.monitor.api.queue_routes import Minutes, Snapshot, StoreState
from fairlane.monitor.api.serving import Served, Serving, Viewer
from fairlane.monitor.api.tokens import Caller
from fairlane.monitor.dashboard.pages import page, said
from fairlane.monitor.stats import Stats
from fairlane.topics.clock import now_ms

router = APIRouter()

_SHARE_MS: Final = 5 * 60_000


@router.get("/")
def overview(request: Request, serving: Served, caller: Viewer) -> Response:
    """Rates, latency, and what waits in which lane."""
    found = said(queue_routes.stats(serving, caller), Snapshot)
    return page(
        request, "overview.html", caller, now=found, stats=found.stats,
        store=said(queue_routes.store(serving, caller), StoreState), shares=_shares(serving, caller, found.stats),
        elsewhere=serving.links.of_queue(serving.names),
    )  # fmt: skip


@router.get("/topics")
def topics(request: Request, serving: Served, caller: Viewer) -> Response:
    """Lanes, tiers and the DLQ."""
    found = said(queue_routes.stats(serving, caller), Snapshot)
    return page(
        request, "topics.html", caller, now=found, stats=found.stats,
        store=said(queue_routes.store(serving, caller), StoreState),
    )  # fmt: skip


@router.get("/workers")
def workers(request: Request, serving: Served, caller: Viewer) -> Response:
    """Who works, and on what."""
    found = said(queue_routes.stats(serving, caller), Snapshot)
    return page(request, "workers.html", caller, now=found, stats=found.stats)


def _shares(serving: Serving, caller: Caller, stats: Stats) -> dict[str, dict[str, Any]]:
    """Of each lane, in percent: its part of what ended in the last minutes, and of the weights that workers have."""
    ended = Counter[str]()
    for each in said(queue_routes.minutes(serving, caller, now_ms() - _SHARE_MS), Minutes).minutes:
        if each.state != "retrying":
            ended[each.lane] += each.n
    weights = {lane.topic: max(1, lane.weight) for lane in stats.lanes}
    total, weight = sum(ended[topic] for topic in weights), sum(weights.values())
    return {
        topic: {"ended": 100 * ended[topic] / total if total else None, "weight": 100 * weights[topic] / weight}
        for topic in weights
    }
