"""When an event loop counts as blocked: signs asked of it and given go in, an incident's beginning and end come out.

Invariant: an incident begins once and ends once, however often it is looked at; a process that stood still as a whole
blames nobody who runs in it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

ASLEEP: Final = 2.0
"""So many times its period a look may be late before whoever looks has stood still himself."""


class Blocked(NamedTuple):
    """The loop has not answered for so long, seconds; said once an incident."""

    for_s: float


class Over(NamedTuple):
    """The loop answers again; it was blocked for so long, seconds."""

    for_s: float


class StoodStill(NamedTuple):
    """Nobody in this process ran for so long, seconds: it was stopped, or something kept the interpreter's lock."""

    for_s: float


class Stall:
    """The incidents of one event loop.

    Args:
        limit_s: how long it may leave a question unanswered, seconds.
    """

    def __init__(self, limit_s: float) -> None:
        self.period_s = min(0.25, limit_s / 4)
        """How often it should be looked at."""
        self._limit_s = limit_s
        self._looked_s: float | None = None
        self._asked_s: float | None = None
        self._blocked = False

    @property
    def asked_s(self) -> float | None:
        """When the question was asked that is not answered yet; None if there is none."""
        return self._asked_s

    def asked(self, now_s: float) -> None:
        """The loop was asked for a sign."""
        self._asked_s = now_s

    def look(self, answered_s: float | None, now_s: float) -> Blocked | Over | StoodStill | None:
        """What there is to say.

        Args:
            answered_s: when the loop gave the sign that it was asked for; None if it has not.
            now_s: the time, by the same clock.
        """
        slept_s = now_s - self._looked_s if self._looked_s is not None else 0.0
        self._looked_s = now_s
        asked_s = self._asked_s
        if answered_s is not None:
            self._asked_s = None
            if self._blocked and asked_s is not None:
                self._blocked = False
                return Over(answered_s - asked_s)
        if not self._blocked and slept_s > max(self._limit_s, ASLEEP * self.period_s) + self.period_s:
            if self._asked_s is not None:
                # What it owed from before counts from now on: it could not have answered.
                self._asked_s = now_s
            return StoodStill(slept_s)
        if asked_s is not None and answered_s is None and not self._blocked and now_s - asked_s >= self._limit_s:
            self._blocked = True
            return Blocked(now_s - asked_s)
        return None
