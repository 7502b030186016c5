"""A point in time that a chain of waits shares, so that together they take no longer than they were given.

Invariant: it is made once from seconds and only runs out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Deadline:
    """When a caller's patience ends.

    Args:
        timeout_s: how long from now, seconds.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._ends_s = time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds that are left, never negative."""
        return max(0.0, self._ends_s - time.monotonic())

    def poll(self, done: Callable[[], bool], every_s: float = 0.05) -> bool:
        """Ask `done` until it says yes or the time is over; for what Kafka tells only when asked.

        Returns:
            Whether it said yes.
        """
        pause = threading.Event()
        while not done():
            if not self.left_s:
                return False
            pause.wait(min(every_s, self.left_s))
        return True
