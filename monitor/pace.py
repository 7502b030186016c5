"""How fast letters are put back.

Invariant: no I/O, no clock. Over any stretch of time no more go than the rate allows, but for two batches: who comes
late by less than a batch catches up, and what was not sent while it was paused is not caught up with.
"""

from __future__ import annotations

import math
from typing import Final

_AT_ONCE: Final = 500
_BATCHES_PER_S: Final = 10


class Pace:
    """A rate as batches and waits.

    Args:
        per_s: letters a second; None is as fast as Kafka takes them.
    """

    def __init__(self, per_s: float | None) -> None:
        self._per_s = per_s
        self._next_s = -math.inf
        self.batch = _AT_ONCE if per_s is None else max(1, min(_AT_ONCE, math.ceil(per_s / _BATCHES_PER_S)))
        """How many go in one transaction."""

    def wait_s(self, now_s: float) -> float:
        """How long to wait before the next batch, seconds; `now_s` is of any monotonic clock."""
        return max(0.0, self._next_s - now_s)

    def went(self, count: int, now_s: float) -> None:
        """So many went now."""
        if self._per_s is not None:
            takes_s = count / self._per_s
            last_s = self._next_s if self._next_s > -math.inf else now_s
            self._next_s = max(last_s, now_s - takes_s) + takes_s
