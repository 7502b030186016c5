"""Tasks that wait in memory until they are due.

Invariant: nothing leaves before it is due; what leaves does so in the order of its due time, and in the order of
arrival where that is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")


class DelayHeap(Generic[T]):
    """A heap of items by due time, Unix ms."""

    __slots__ = ("_arrivals", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, T]] = []
        self._arrivals = 0

    def push(self, due_ms: int, item: T) -> None:
        """Keep the item until `due_ms`."""
        self._arrivals += 1
        heappush(self._heap, (due_ms, self._arrivals, item))

    def due(self, now_ms: int) -> list[T]:
        """Take out all that is due at `now_ms`, the longest due first."""
        heap = self._heap
        ready: list[T] = []
        while heap and heap[0][0] <= now_ms:
            ready.append(heappop(heap)[2])
        return ready

    @property
    def next_due_ms(self) -> int | None:
        """When the next item is due; None if there is none."""
        return self._heap[0][0] if self._heap else None

    def discard(self, predicate: Callable[[T], bool]) -> list[T]:
        """Take out the items for which the predicate holds, in due order."""
        kept: list[tuple[int, int, T]] = []
        gone: list[tuple[int, int, T]] = []
        for entry in self._heap:
            (gone if predicate(entry[2]) else kept).append(entry)
        if gone:
            heapify(kept)
            self._heap = kept
            gone.sort(key=lambda entry: entry[:2])
        return [item for _, _, item in gone]

    def __iter__(self) -> Iterator[T]:
        """All that waits, in no order."""
        return (item for _, _, item in self._heap)

    def __len__(self) -> int:
        return len(self._heap)
