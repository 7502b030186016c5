"""The time of an in-memory broker, and how its clients wait.

Invariant: whatever happens in a broker happens while its clock is held, and whoever waits has let go of it.
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from typing import Protocol


class Clock(Protocol):
    """Time as a broker and its clients see it; a simulation brings one of its own."""

    def monotonic(self) -> float:
        """Seconds from some beginning on."""
        ...

    def now_ms(self) -> int:
        """Unix time in milliseconds, for the timestamps of records."""
        ...

    def held(self) -> AbstractContextManager[object]:
        """The lock of the broker; one thread may take it more than once."""
        ...

    @property
    def changes(self) -> int:
        """Counts the calls of `changed`."""
        ...

    def changed(self) -> None:
        """Something happened in the broker that somebody may wait for."""
        ...

    def wait(self, seen: int, timeout_s: float) -> None:
        """Wait until `changes` is another than `seen`, for so many seconds at most."""
        ...


class WallClock:
    """The time of the machine, for clients on threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.RLock())
        self._changes = 0

    def monotonic(self) -> float:
        """Seconds from some beginning on."""
        return time.monotonic()

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    def held(self) -> AbstractContextManager[object]:
        """The lock of the broker."""
        return self._condition

    @property
    def changes(self) -> int:
        """Counts the calls of `changed`."""
        return self._changes

    def changed(self) -> None:
        """Wake those that wait."""
        with self._condition:
            self._changes += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout_s: float) -> None:
        """Wait until something happened after `seen`, for so many seconds at most."""
        with self._condition:
            self._condition.wait_for(lambda: self._changes != seen, timeout_s)
