"""Waiting for room in the local buffer.

Invariant: a waiter is woken after so many records have left the buffer as it asked for, or it wakes itself: it waits in
short slices, because a record leaves the buffer a moment after its report, not with it.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future

SLICE_S = 0.05
"""How long a waiter waits before it looks for itself."""


class Space:
    """Who waits for room, the first to come the first to be woken."""

    __slots__ = ("_lock", "_waiters", "wanted")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: deque[tuple[int, Future[None]]] = deque()
        self.wanted = False

    def wait_for(self, records: int) -> Future[None]:
        """A future that is done when `records` of them have left the buffer from now on."""
        future: Future[None] = Future()
        with self._lock:
            self._waiters.append((max(1, records), future))
            self.wanted = True
        return future

    def left(self) -> None:
        """One record has left the buffer."""
        with self._lock:
            while self._waiters:
                records, future = self._waiters.popleft()
                if future.done():
                    continue
                if records > 1:
                    self._waiters.appendleft((records - 1, future))
                elif future.set_running_or_notify_cancel():
                    future.set_result(None)
                break
            self.wanted = bool(self._waiters)
