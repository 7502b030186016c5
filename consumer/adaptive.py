"""How many attempts of a task type run at once, where that adapts to what its handler bears.

Invariant: the limit stays between its minimum and its maximum, and moves only on what a cohort of attempts showed that
all began under it; what began under an earlier limit says nothing of this one.

The law is that of TCP Vegas (Brakmo and Peterson, 1995): if N attempts take R together and R0 when there are few, then
by Little's law N * R0 / R of them are served and the rest, N * (1 - R0 / R), wait for each other. A few that wait are
good, since nothing is idle then; more only make all of them slow. So the limit grows while fewer than h wait, stays
while h to 3 h do, and beyond that falls to where 2 h would, at most by half at once; h is sqrt(N) / 2. Between those
bounds it rests, so it does not oscillate. It doubles until the first sign of a queue, and then grows by h.

What differs from Vegas, since handlers are no packets: their times vary. R is the mean of a cohort, and only what two
standard errors do not explain counts as waiting. R0 is no minimum but the mean of a cohort that ran with half as many:
the first one, and again every half a minute or 20 cohorts, whichever is later. (A minimum forgets nothing, so handlers
that became slower would be held down for ever; a moving average forgets too much, so under a load without end the limit
creeps up.) Attempts that fail with an exception that means overload cut the limit by a quarter where they are a tenth
or more, and it does not grow for half a minute then: each of them has cost an attempt.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from fairlane.topics.errors import UsageError

COHORT_MIN: Final = 16
"""So few attempts tell a mean, if they vary little; those that vary more are given more room by their error."""
COHORT_MS: Final = 250
"""A cohort takes members for at least so long: handlers of a few ms would be judged by a blink otherwise."""
COHORT_MAX: Final = 2_000
SLOWEST: Final = 0.1
"""The share of a cohort that is not waited for: one attempt that hangs must not hold up the rest."""
OVERLOADED: Final = 0.1
"""From this share of a cohort on failures mean overload: a few are those of a task, not of what all of them use."""
BACK_OFF: Final = 0.75
REVIEW_MS: Final = 30_000
REVIEW_COHORTS: Final = 20
"""One cohort of 20 at half the limit costs a fortieth of the throughput, at most."""
ERRORS: Final = 2.0


@dataclass(frozen=True)
class Adaptive:
    """A concurrency that adapts to what the handler bears: `@app.task(concurrency=Adaptive(min=4, max=200))`.

    Attributes:
        min: attempts that one worker process always runs at once, if there are so many.
        max: attempts that it never runs more of; its `workers` bound all types together.
        overload: exceptions that mean that whatever the handler uses is overloaded: the limit falls where many attempts
            end with them. A slow answer needs no exception.

    Raises:
        UsageError: the bounds leave nothing to adapt, or `overload` is no tuple of exception classes.
    """

    min: int = 1
    max: int = 100
    overload: tuple[type[BaseException], ...] = (TimeoutError, ConnectionError)

    def __post_init__(self) -> None:
        for name in ("min", "max"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"Adaptive({name}={value!r}) is no number of attempts", "Give 1 or more")
        if self.min >= self.max:
            raise UsageError(
                f"Adaptive(min={self.min}, max={self.max}) leaves nothing to adapt",
                f"Give a max above min, or say concurrency={self.min}",
            )
        kinds: Any = self.overload
        if not isinstance(kinds, tuple) or not all(
            isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
        ):
            raise UsageError(f"overload is {kinds!r}", "It is a tuple of exception classes: (TimeoutError,)")


class Change(NamedTuple):
    """The limit moved, and why."""

    before: int
    after: int
    reason: str


class _Times(NamedTuple):
    """What attempts took: the mean, and the square of its standard error; ms."""

    mean_ms: float
    error2: float


class _Cohort:
    """Attempts that all began under one limit."""

    __slots__ = ("_running", "closed", "full", "members", "overloads", "since_ms", "took_ms")

    def __init__(self, since_ms: float) -> None:
        self.since_ms = since_ms
        self.closed = False
        self.members = 0
        self.overloads = 0
        self.took_ms: list[float] = []
        self.full = False
        """Whether the limit was reached: one that nobody reaches need not grow."""
        self._running: set[Hashable] = set()

    def began(self, key: Hashable) -> None:
        if not self.closed:
            self._running.add(key)
            self.members += 1

    def ended(self, key: Hashable, took_ms: float | None, overloaded: bool) -> bool:
        """Take note of an end; whether it is one of this cohort's."""
        if key not in self._running:
            return False
        self._running.discard(key)
        if overloaded:
            self.overloads += 1
        elif took_ms is not None:
            self.took_ms.append(took_ms)
        else:
            self.members -= 1
        return True

    def close(self, least: int, now_ms: float) -> None:
        """Take no more members if there are enough."""
        if self.members >= COHORT_MAX or (self.members >= least and now_ms - self.since_ms >= COHORT_MS):
            self.closed = True

    @property
    def told(self) -> bool:
        """Whether enough of its members have ended."""
        return self.closed and len(self._running) <= self.members * SLOWEST

    def times(self) -> _Times:
        """What its members took."""
        count = len(self.took_ms)
        mean_ms = math.fsum(self.took_ms) / count
        spread = math.fsum((each - mean_ms) ** 2 for each in self.took_ms) / max(1, count - 1)
        return _Times(mean_ms, spread / count)


class AdaptiveLimit:
    """The limit of one task type.

    Args:
        policy: its bounds.
        most: what the worker runs at once at all; the limit never exceeds it.
    """

    def __init__(self, policy: Adaptive, most: int) -> None:
        self._min, self._max = min(policy.min, most), min(policy.max, most)
        self._limit = float(self._min)
        self._inside = 0
        self._cohort = _Cohort(0.0)
        self._base: _Times | None = None
        self._base_ms = 0.0
        self._cohorts = 0
        """How many were judged against this base."""
        self._doubles = True
        self._grows_from_ms = 0.0
        self._returns_to: float | None = None
        """The limit before a review; None where there is none under way."""

    @property
    def limit(self) -> int:
        """How many may run at once."""
        return int(self._limit)

    def began(self, key: Hashable) -> None:
        """An attempt begins.

        Args:
            key: by which its end is told.
        """
        self._inside += 1
        self._cohort.full |= self._inside >= self.limit
        self._cohort.began(key)

    def ended(self, key: Hashable, took_ms: float | None, overloaded: bool, now_ms: float) -> Change | None:
        """An attempt has ended.

        Args:
            key: as when it began.
            took_ms: how long the handler took, ms; None if it did not complete, which tells nothing of its time.
            overloaded: whether it failed with one of the policy's exceptions.
            now_ms: the time, ms of any clock.

        Returns:
            How the limit moved, if it did.
        """
        self._inside -= 1
        cohort = self._cohort
        if not cohort.ended(key, took_ms, overloaded):
            return None
        cohort.close(max(COHORT_MIN, self.limit), now_ms)
        if not cohort.told:
            return None
        before = self.limit
        reason = self._judge(cohort, now_ms)
        self._limit = min(float(self._max), max(float(self._min), self._limit))
        self._cohort = _Cohort(now_ms)
        return Change(before, self.limit, reason) if self.limit != before else None

    def _judge(self, cohort: _Cohort, now_ms: float) -> str:
        """Move the limit by what a cohort showed; returns the reason."""
        returns_to, self._returns_to = self._returns_to, None
        if cohort.overloads and cohort.overloads >= cohort.members * OVERLOADED:
            self._doubles = False
            self._grows_from_ms = now_ms + REVIEW_MS
            self._limit *= BACK_OFF
            return f"{cohort.overloads} of {cohort.members} attempts failed as if overloaded"
        if not cohort.took_ms:
            return ""
        times = cohort.times()
        if self._base is None or returns_to is not None or self.limit <= self._min:
            self._base, self._base_ms, self._cohorts = times, now_ms, 0
        if returns_to is not None:
            self._limit = returns_to
            return f"with half as many attempts take {times.mean_ms:.0f} ms"
        if times.mean_ms + _chance_ms(times, self._base) < self._base.mean_ms:
            self._base = times
        self._cohorts += 1
        return self._compare(times, self._base, cohort.full, now_ms)

    def _compare(self, times: _Times, base: _Times, is_full: bool, now_ms: float) -> str:
        slower_ms = times.mean_ms - base.mean_ms - _chance_ms(times, base)
        waiting = self._limit * slower_ms / times.mean_ms if slower_ms > 0 else 0.0
        headroom = max(1.0, math.sqrt(self._limit) / 2)
        if waiting > headroom:
            self._doubles = False
        if waiting > 3 * headroom:
            self._limit = max(self._limit / 2, self._limit - waiting + 2 * headroom)
        elif is_full and self._is_review_due(now_ms):
            self._returns_to = self._limit
            self._limit /= 2
            return "to see what attempts take with half as many"
        elif is_full and waiting <= headroom and now_ms >= self._grows_from_ms:
            self._limit = self._limit * 2 if self._doubles else self._limit + headroom
        return f"attempts take {times.mean_ms:.0f} ms, with few or half as many {base.mean_ms:.0f} ms"

    def _is_review_due(self, now_ms: float) -> bool:
        return self.limit > self._min and self._cohorts >= REVIEW_COHORTS and now_ms - self._base_ms >= REVIEW_MS


def _chance_ms(one: _Times, other: _Times) -> float:
    """How far two means may be apart by chance."""
    return ERRORS * math.sqrt(one.error2 + other.error2)
