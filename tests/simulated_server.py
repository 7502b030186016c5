"""What handlers use, simulated: so many are served at once, the others wait in line; on virtual time, by a seed.

Invariant: nothing here knows the limiter's law: it begins what the limiter allows, and tells it of every end.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from fairlane.consumer.adaptive import AdaptiveLimit, Change

Number = Callable[[float], float]
"""Of the time, seconds."""


def always(value: float) -> Number:
    return lambda _now_s: value


@dataclass
class Run:
    """What became of a limit, second by second."""

    limits: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    """Attempts that had ended by then."""
    refused: int = 0
    changes: list[tuple[float, Change]] = field(default_factory=list)

    def mean(self, first_s: int, last_s: int) -> float:
        """Of the limit over these seconds."""
        return sum(self.limits[first_s:last_s]) / (last_s - first_s)

    def per_s(self, first_s: int, last_s: int) -> float:
        """Attempts that ended a second."""
        return (self.done[last_s - 1] - self.done[first_s]) / (last_s - 1 - first_s)


class Server:
    """Serves `capacity` at once; the others wait, or are refused at once where that is its way.

    Args:
        capacity: how many it serves.
        service_ms: what one takes that is served, given a random generator and the time in seconds.
        demand: how many tasks there are to run at once at most.
        refuses: whether it refuses those that it cannot serve.
    """

    def __init__(
        self,
        capacity: Number,
        service_ms: Callable[[Random, float], float],
        *,
        demand: Number | None = None,
        refuses: bool = False,
    ) -> None:
        self._capacity = capacity
        self._service_ms = service_ms
        self._demand = demand or always(1e9)
        self._refuses = refuses

    def run(self, limit: AdaptiveLimit, seconds: int, seed: int) -> Run:
        """Run attempts against it as the limiter allows."""
        random, result = Random(seed), Run()
        now_ms, key, served = 0.0, 0, 0
        began_ms: dict[int, float] = {}
        line: deque[int] = deque()
        ends: list[tuple[float, int, bool]] = []
        while now_ms < seconds * 1_000:
            now_s = now_ms / 1_000
            while len(began_ms) < min(limit.limit, self._demand(now_s)):
                key += 1
                began_ms[key] = now_ms
                limit.began(key)
                if self._refuses and served + len(line) >= self._capacity(now_s):
                    heapq.heappush(ends, (now_ms + 5, key, False))
                else:
                    line.append(key)
                while line and served < self._capacity(now_s):
                    served += 1
                    heapq.heappush(ends, (now_ms + self._service_ms(random, now_s), line.popleft(), True))
            now_ms, ended, was_served = heapq.heappop(ends)
            while len(result.limits) < now_ms / 1_000:
                result.limits.append(limit.limit)
                result.done.append(key - len(began_ms) - result.refused)
            served -= was_served
            result.refused += not was_served
            while line and served < self._capacity(now_ms / 1_000):
                served += 1
                heapq.heappush(ends, (now_ms + self._service_ms(random, now_ms / 1_000), line.popleft(), True))
            # Whole milliseconds are what an outcome has.
            took_ms = round(now_ms) - round(began_ms.pop(ended))
            change = limit.ended(ended, took_ms if was_served else None, not was_served, now_ms)
            if change is not None:
                result.changes.append((now_ms / 1_000, change))
        return result
