"""Losses on their way into a commit: who waits for them to be in Kafka.

Invariant: owned by the settler's thread. Whoever waits is told once, after the commit that has them; of a partition
that left, nobody is.
"""

from __future__ import annotations

from collections.abc import Set

from fairlane.consumer.delivery import Assigned
from fairlane.consumer.ledger import Ledger
from fairlane.consumer.to_settler import RecordLosses


class LossRecords:
    """Those that are in the books, and not yet in Kafka."""

    def __init__(self) -> None:
        self._waiting: list[RecordLosses] = []

    def add(self, losses: RecordLosses) -> None:
        """They are in the books: the next commit of their partition has them."""
        self._waiting.append(losses)

    def committed(self, assigned: Set[Assigned], books: Ledger) -> None:
        """A transaction is in Kafka: what it has of these lets their suspects start.

        Args:
            assigned: of which it committed offsets.
            books: of the partitions that are open still.
        """
        waiting = []
        for each in self._waiting:
            if each.assigned in assigned:
                each.done()
            elif each.assigned in books:
                waiting.append(each)
        self._waiting = waiting

    def clear(self) -> None:
        """Everything is given up."""
        self._waiting.clear()
