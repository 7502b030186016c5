"""The switch of a job that runs: pause, resume and stop, from any thread or signal handler.

Invariant: a job looks at it between two transactions only, so it never holds one open, and a stop is never lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Final

_LOOK_S: Final = 0.05


class JobControl:
    """Held by who runs the job and by who may pause or stop it.

    Args:
        on_pause: called by who runs the job while it is paused and no transaction is open; again until it goes on.
    """

    def __init__(self, on_pause: Callable[[], None] = lambda: None) -> None:
        self._on_pause = on_pause
        self._stop = Event()
        self._paused = Event()

    def pause(self) -> None:
        """Send nothing more until `resume`."""
        self._paused.set()

    def resume(self) -> None:
        """Go on."""
        self._paused.clear()

    def stop(self) -> None:
        """End when the transaction that is under way has ended."""
        self._stop.set()

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._paused.is_set()

    @property
    def stopped(self) -> bool:
        """Whether it is to end."""
        return self._stop.is_set()

    def go_on_after(self, wait_s: float) -> bool:
        """Wait, and as long as it is paused.

        Returns:
            Whether to go on; False where it was stopped.
        """
        deadline = time.monotonic() + wait_s
        while not self._stop.is_set():
            left_s = deadline - time.monotonic()
            if left_s <= 0 and not self._paused.is_set():
                return True
            if self._paused.is_set():
                self._on_pause()
            # Short waits, since a signal handler cannot notify who waits on a condition.
            self._stop.wait(min(_LOOK_S, max(left_s, 0.001)))
        return False
