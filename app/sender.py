"""Who takes tasks from an app: the producer, or what stands in for it in tests.

Invariant: it takes parcels and gives handles, and knows nothing of functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from fairlane.producer import Parcel, TaskHandle

R = TypeVar("R")


class Sender(Protocol):
    """The part of a TaskProducer that apps use."""

    def enqueue(self, parcel: Parcel[R]) -> TaskHandle[R]:
        """Take a task."""
        ...

    async def aenqueue(self, parcel: Parcel[R]) -> TaskHandle[R]:
        """The same, for async code."""
        ...

    def enqueue_many(self, parcels: Sequence[Parcel[R]]) -> list[TaskHandle[R]]:
        """Take many."""
        ...

    async def aenqueue_many(self, parcels: Sequence[Parcel[R]]) -> list[TaskHandle[R]]:
        """The same, for async code."""
        ...

    def handle(self, task_id: str, load: Callable[[bytes], R]) -> TaskHandle[R]:
        """A handle for a task whose id was kept."""
        ...
