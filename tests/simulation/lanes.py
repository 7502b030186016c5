"""Whether a worker's lanes are served as the scheduler promises: its own count of the bound in its docstring.

Invariant: while lane i has a runnable task, at most (W - w_i) + U_i tasks of other lanes are taken before one of its
own, where W is the sum of all weights and U_i that of the lanes before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fairlane.topics.names import Lane


class Lanes:
    """Counts what a worker takes."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._urgent_first = [lane.topic for lane in sorted(lanes, key=lambda lane: -lane.level)]
        self.starved: str | None = None
        self._weights: Mapping[str, int] = {}
        self.weigh({lane.topic: lane.weight for lane in lanes})

    def weigh(self, weights: Mapping[str, int]) -> None:
        """The lanes have these weights now; where they are others, the bound begins anew."""
        if weights != self._weights:
            self._weights = weights
            each = [weights[lane] for lane in self._urgent_first]
            self._bound = {
                lane: sum(each) - each[place] + sum(each[:place]) for place, lane in enumerate(self._urgent_first)
            }
            self._others: dict[str, int] = dict.fromkeys(self._bound, 0)

    def took(self, waiting: Mapping[str, int], taken: Iterable[str]) -> None:
        """Tasks were taken at once.

        Args:
            waiting: how many were runnable in each lane before.
            taken: the lanes of those that were taken, in order.
        """
        left = Counter(waiting)
        for lane in taken:
            left[lane] -= 1
            for other, others in self._others.items():
                if other == lane or not left[other]:
                    self._others[other] = 0
                elif others >= self._bound[other]:
                    self.starved = f"{other} waits while {others + 1} tasks of other lanes are taken"
                else:
                    self._others[other] = others + 1
        for lane, count in left.items():
            if not count:
                self._others[lane] = 0
