"""What became of the settler's transactions.

Invariant: counted once a transaction, on the settler's thread; read from any other, and everything only grows.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BOUNDS_S: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets, seconds; a transaction that takes longer than the last one has timed out."""


class SettleMeter:
    """Counts transactions."""

    __slots__ = ("aborted", "given_up", "outcomes", "repeated", "took", "took_s")

    def __init__(self) -> None:
        self.outcomes = 0
        """Settled outcomes."""
        self.aborted = 0
        """Transactions that were aborted and settled again."""
        self.given_up = 0
        """Producers that could do no more; what they had not settled was read again."""
        self.repeated = 0
        """Calls that Kafka asked to be made again."""
        self.took = [0] * (len(BOUNDS_S) + 1)
        """How many transactions that were committed took so long, by bucket; the last one has no bound."""
        self.took_s = 0.0

    def committed(self, outcomes: int, took_s: float) -> None:
        """A transaction is in Kafka, with so many outcomes, after so many seconds."""
        self.outcomes += outcomes
        self.took[bisect_left(BOUNDS_S, took_s)] += 1
        self.took_s += took_s
