"""What the routes of the API share.

Invariant: it is made once, before the first request, and what is in it is thread-safe.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from fairlane.monitor.api.jobs import Jobs
from fairlane.monitor.api.links import Links
from fairlane.monitor.api.session import authorization_of, from_own_page
from fairlane.monitor.api.tokens import Caller, Tokens, is_loopback
from fairlane.monitor.live import Look
from fairlane.monitor.metrics import QueueMetrics
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.stats import RunningStats
from fairlane.monitor.store.batch import Batch
from fairlane.monitor.store.follower import Progress
from fairlane.monitor.store.readers import Readers
from fairlane.topics.connection import Connection
from fairlane.topics.metrics.measure import Reading
from fairlane.topics.names import QueueNames

_REMEMBERED: Final = 500
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Changes:
    """Which tasks changed last; written by the follower's thread, read by those who watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest: deque[tuple[int, str]] = deque(maxlen=_REMEMBERED)
        self._count = 0

    @property
    def count(self) -> int:
        """How many batches there were."""
        return self._count

    def add(self, batch: Batch) -> None:
        """A batch was written."""
        with self._lock:
            self._count += 1
            self._newest.extend((self._count, row.id) for row in batch.rows)

    def since(self, count: int) -> tuple[int, list[str]]:
        """How many batches there are now, and the newest of the tasks that changed after so many."""
        with self._lock:
            return self._count, list({task_id: None for number, task_id in self._newest if number > count})


@dataclass(frozen=True)
class Serving:
    """One queue as it is served.

    Attributes:
        look: gives the newest snapshot of the queue.
        progress: how far the store is.
        user: who acts where there are no tokens.
        timeout_s: how long one answer of Kafka's may take, seconds.
        links: where else the queue is shown.
    """

    connection: Connection
    names: QueueNames
    readers: Readers
    progress: Progress
    look: Callable[[], Look]
    tokens: Tokens
    user: str
    timeout_s: float = 10.0
    links: Links = field(default_factory=Links)
    changes: Changes = field(default_factory=Changes)
    jobs: Jobs = field(default_factory=Jobs)
    closing: threading.Event = field(default_factory=threading.Event)
    """Set when the server is to end: streams end then too."""

    def topics(self) -> dict[str, int]:
        """All topics that there are now, and how many partitions each has."""
        return Offsets(self.connection, timeout_s=self.timeout_s).partitions()

    def measured(self) -> Iterator[Reading]:
        """What is measured, now; from any thread."""
        return QueueMetrics(self.look, self.progress, self.readers).collect()

    @property
    def running(self) -> dict[str, RunningStats]:
        """What runs now, by task."""
        return {one.task.id: one for one in self.look().stats.running}


def serving_of(request: Request) -> Serving:
    """What the app of a request serves."""
    serving: Serving = request.app.state.serving
    return serving


async def known_names(request: Request) -> None:
    """Refuse parameters that the route does not have: one that is misspelt would give what was not asked for."""
    route = request.scope["route"]
    known = {field.alias for field in route.dependant.query_params}
    if unknown := sorted(set(request.query_params) - known):
        there = f"there are: {', '.join(sorted(known))}" if known else "there are none"
        raise HTTPException(422, f"there is no parameter {unknown[0][:100]!r}; {there}")


async def viewer(request: Request) -> Caller:
    """Who asks; refused if it is nobody. What answers an error finds it in `request.state.caller`."""
    caller: Caller = _caller(request)
    request.state.caller = caller
    return caller


def _caller(request: Request) -> Caller:
    serving = serving_of(request)
    if serving.tokens:
        given = request.headers.get("authorization")
        caller = serving.tokens.caller(authorization_of(request, serving.names.queue) if given is None else given)
        if caller is None:
            raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
        if given is None and request.method not in _SAFE and not from_own_page(request):
            raise HTTPException(403, "by a cookie only pages of this origin may act")
        return caller
    # A page of somebody else's in a browser on this machine reaches us too: by a name of its own that leads here, or
    # by a request that it sends without seeing the answer.
    if not is_loopback(request.headers.get("host", "")):
        raise HTTPException(403, "without tokens only this machine is served, by its own name")
    if request.method not in _SAFE and not _own(request):
        raise HTTPException(403, "without tokens no other site's page may act")
    return Caller(serving.user, "operator")


async def operator(caller: Annotated[Caller, Depends(viewer)]) -> Caller:
    """Who acts; refused if it may only look."""
    if caller.role != "operator":
        raise HTTPException(403, "this needs a token of an operator")
    return caller


def _own(request: Request) -> bool:
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return False
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


Viewer = Annotated[Caller, Depends(viewer)]
Operator = Annotated[Caller, Depends(operator)]
Served = Annotated[Serving, Depends(serving_of)]
