"""How many worker processes a pool has: more as soon as they are too busy, fewer when they have been idle for long.

Invariant: from `least` to `most`, never more than their partitions feed, and a size is only judged when all of its
processes work and had time to share the partitions anew.

Fast up, slow down: three busy seconds grow a pool, by one, or to twice as many if tasks wait for too long; only
`idle_s` without a break shrink it, and by one. Hysteresis: a pool grows at 80 % and shrinks only if those that stay
would then be 60 % busy, so that neither step calls for the other. What is busy is a process whose slots are taken or
whose core is: one that runs tasks of microseconds has free slots, and no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

BUSY: Final = 0.8
HALF_BUSY: Final = 0.5
"""So busy a pool must be to grow for tasks that wait for long: if it is not, something else holds them up."""
IDLE: Final = 0.6


@dataclass(frozen=True)
class ScalingPolicy:
    """The bounds of a pool, and its patience.

    Attributes:
        least: processes that it always has.
        most: processes that it never has more of.
        age_s: how long the oldest task may wait before the pool grows, seconds.
        idle_s: how long fewer processes would have done before there are fewer, seconds.
        busy_s: how long it is too busy before it grows, seconds.
        settle_s: how long processes that all work have to share the partitions before they are judged, seconds.
    """

    least: int
    most: int
    age_s: float = 10.0
    idle_s: float = 120.0
    busy_s: float = 3.0
    settle_s: float = 5.0


class Vitals(NamedTuple):
    """How one process is."""

    busy: float
    """The share of its slots, or of its core, that is taken; whichever is more, 0 to 1."""
    waiting: int
    """Tasks that it could start now."""
    oldest_s: float
    """How long the oldest of them has waited."""
    partitions: int
    """How many it reads of a lane."""


class Decision(NamedTuple):
    """From so many processes to so many, and why; or, with both the same, why it stays so although it is too busy."""

    before: int
    after: int
    reason: str


class Scaling:
    """The size of a pool.

    Args:
        policy: its bounds and patience.
    """

    def __init__(self, policy: ScalingPolicy) -> None:
        self.policy = policy
        self.processes = policy.least
        self._complete_s: float | None = None
        """Since when all of them work."""
        self._busy_s: float | None = None
        self._idle_s: float | None = None
        self._held = ""

    def look(self, vitals: Sequence[Vitals], now_s: float) -> Decision | None:
        """What follows from how the processes are.

        Args:
            vitals: of those that work; if it is not all of them, nothing follows.
            now_s: the time, in seconds of any clock that only goes forward.
        """
        if len(vitals) < self.processes:
            self._complete_s = self._busy_s = self._idle_s = None
            return None
        if self._complete_s is None:
            self._complete_s = now_s
        if now_s - self._complete_s < self.policy.settle_s:
            return None
        busy = sum(each.busy for each in vitals) / len(vitals)
        oldest_s = max(each.oldest_s for each in vitals)
        fed = sum(each.partitions for each in vitals)
        why = f"{busy:.0%} busy"
        if oldest_s >= 1:
            why += f", and the oldest task has waited {oldest_s:.0f} s"
        is_late = oldest_s >= self.policy.age_s
        is_busy = any(each.waiting for each in vitals) and busy >= (HALF_BUSY if is_late else BUSY)
        self._busy_s = _since(self._busy_s, is_busy, now_s)
        self._idle_s = _since(self._idle_s, self._would_do(busy, oldest_s, fed), now_s)
        if self._busy_s is not None and now_s - self._busy_s >= self.policy.busy_s:
            decision = self._grow(is_late, fed, why)
            if decision is not None:
                return decision
        if self._idle_s is not None and now_s - self._idle_s >= self.policy.idle_s:
            surplus = fed < self.processes
            return self._resize(self.processes - 1, f"their partitions feed {fed}" if surplus else why)
        return None

    def _would_do(self, busy: float, oldest_s: float, fed: int) -> bool:
        """Whether one process less would do."""
        rest = self.processes - 1
        if rest < self.policy.least:
            return False
        return fed <= rest or (busy * self.processes / rest <= IDLE and oldest_s < self.policy.age_s / 2)

    def _grow(self, is_late: bool, fed: int, why: str) -> Decision | None:
        wanted = self.processes * 2 if is_late else self.processes + 1
        after = min(wanted, self.policy.most, max(fed, self.processes))
        if after > self.processes:
            return self._resize(after, why)
        held = "no more are allowed" if self.policy.most <= self.processes else "their partitions feed no more"
        if held == self._held:
            return None
        self._held = held
        return Decision(self.processes, self.processes, f"{why}; {held}")

    def _resize(self, after: int, reason: str) -> Decision:
        before, self.processes = self.processes, after
        self._complete_s = self._busy_s = self._idle_s = None
        self._held = ""
        return Decision(before, after, reason)


def _since(since_s: float | None, holds: bool, now_s: float) -> float | None:
    if not holds:
        return None
    return now_s if since_s is None else since_s
