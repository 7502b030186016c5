"""How long the settler gathers outcomes before it commits them together.

Invariant: an idle worker never waits, and none waits longer than `max_s`. In between the wait is a fixed multiple of
what a commit takes, so that commits cost about a fifth of the settler's time whatever the brokers' speed: 11 ms a
commit gives a linger of 44 ms, 50 ms and more give the full 200 ms.
"""

from __future__ import annotations

from typing import Final

SMOOTHING: Final = 0.2
"""Weight of the newest commit in the moving average: a lone outlier moves the linger by a fifth of itself."""

COMMITS_PER_LINGER: Final = 4.0

QUIET_S: Final = 0.01
"""After so long without a new outcome gathering ends: twice the time that another thread may run at a stretch."""


class Linger:
    """An adaptive linger of group commit.

    Args:
        max_s: the longest wait, seconds.
    """

    __slots__ = ("_commit_s", "_max_s")

    def __init__(self, max_s: float = 0.2) -> None:
        self._max_s = max_s
        self._commit_s: float | None = None

    def observe(self, commit_s: float) -> None:
        """A commit took so many seconds."""
        before = commit_s if self._commit_s is None else self._commit_s
        self._commit_s = before + SMOOTHING * (commit_s - before)

    def wait_s(self, idle: bool) -> float:
        """Seconds to gather before the next commit.

        Args:
            idle: no further outcome is to be expected soon, so that waiting gains nothing.
        """
        if idle or self._commit_s is None:
            return 0.0
        return min(self._max_s, COMMITS_PER_LINGER * self._commit_s)
