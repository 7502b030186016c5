"""Gathering: which waiting tasks of a type are run together, and when.

Invariant: tasks of one group leave in the order in which they came. A batch that may start holds at least one task and
at most as many as its group may have; its oldest has waited `max_wait_s` unless the batch is full. Nothing waits longer
for company than that: after it, only for a place to run.

A group is a task type and a number of tasks. Tasks that may die of one another are kept apart by it:

    a first attempt                                  up to `max_size`
    a later attempt, among its like                  fewer each time, the last one alone
    one of whose attempts a worker may have died     alone

So no task is dead of an error that was another's, as long as it may be retried at all.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from fairlane.topics.errors import InvariantBroken, UsageError

T = TypeVar("T")

SIZE_MAX: Final = 10_000
WAIT_MAX_S: Final = 3_600.0


@dataclass(frozen=True)
class BatchPolicy:
    """How many tasks a handler is given at once, and how long they wait for each other.

    Attributes:
        max_size: tasks of a batch, at most.
        max_wait_s: how long a task waits for others to come, seconds, before the batch runs as it is; 0 takes what is
            there and waits for nobody.
        max_bytes: a batch is closed by the task that makes its payloads so large, bytes.

    Raises:
        UsageError: a value is out of its range.
    """

    max_size: int = 100
    max_wait_s: float = 0.5
    max_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        if not 1 <= self.max_size <= SIZE_MAX:
            raise UsageError(f"max_size of a batch is {self.max_size}", f"It is a number from 1 to {SIZE_MAX}")
        if not 0 <= self.max_wait_s <= WAIT_MAX_S:
            raise UsageError(f"max_wait_s of a batch is {self.max_wait_s}", f"Give seconds from 0 to {WAIT_MAX_S:g}")
        if self.max_bytes < 1:
            raise UsageError(f"max_bytes of a batch is {self.max_bytes}", "Give 1 or more")

    def size_at(self, attempt: int, max_attempts: int) -> int:
        """With how many others at most a task runs, itself included.

        A whole batch fails when its handler raises, and nobody knows of whose fault. From `max_size` down to 1, each
        attempt runs among so many times fewer: who is at fault is soon alone with it.

        Args:
            attempt: its number, the first is 1.
            max_attempts: after how many the task is dead.
        """
        if attempt <= 1 or self.max_size == 1:
            return self.max_size
        if attempt >= max_attempts:
            return 1
        return math.ceil(math.pow(self.max_size, (max_attempts - attempt) / (max_attempts - 1)))


class _Gathered(NamedTuple, Generic[T]):
    item: T
    size_bytes: int
    since_ms: int


class _Group(Generic[T]):
    """Tasks of a type that may run together."""

    __slots__ = ("max_bytes", "size", "size_bytes", "task_type", "wait_ms", "waiting")

    def __init__(self, task_type: str, size: int, policy: BatchPolicy) -> None:
        self.task_type = task_type
        self.size = size
        self.wait_ms = round(policy.max_wait_s * 1000) if size > 1 else 0
        self.max_bytes = policy.max_bytes
        self.waiting: deque[_Gathered[T]] = deque()
        self.size_bytes = 0

    def add(self, gathered: _Gathered[T]) -> None:
        self.waiting.append(gathered)
        self.size_bytes += gathered.size_bytes

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= self.size or self.size_bytes >= self.max_bytes

    @property
    def due_ms(self) -> int:
        return self.waiting[0].since_ms + self.wait_ms

    def is_due(self, now_ms: int) -> bool:
        # A clock that was set back makes nobody wait for it to come round again.
        return now_ms >= self.due_ms or now_ms < self.waiting[0].since_ms

    def pop(self) -> tuple[T, ...]:
        """The oldest, as many as make a batch."""
        batch: list[T] = []
        left = self.max_bytes
        while self.waiting and len(batch) < self.size and left > 0:
            gathered = self.waiting.popleft()
            left -= gathered.size_bytes
            self.size_bytes -= gathered.size_bytes
            batch.append(gathered.item)
        return tuple(batch)


class Batches(Generic[T]):
    """The tasks of a worker that were taken to be run together with others.

    Args:
        types: task type -> its policy, and how many batches of it may run at once; None is no limit.
    """

    def __init__(self, types: Mapping[str, tuple[BatchPolicy, int | None]]) -> None:
        self._types = dict(types)
        self._groups: dict[tuple[str, int], _Group[T]] = {}
        self._running = dict.fromkeys(types, 0)
        self._count = 0
        self._looked_ms = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        """All that waits, in no order."""
        return (gathered.item for group in self._groups.values() for gathered in group.waiting)

    def add(self, task_type: str, item: T, *, size: int, size_bytes: int, now_ms: int) -> None:
        """Take a task in.

        Args:
            task_type: one that runs in batches.
            item: what a batch has of it.
            size: with how many it may run at most, itself included.
            size_bytes: of its payload.
            now_ms: Unix ms.
        """
        group = self._groups.get((task_type, size))
        if group is None:
            group = self._groups[(task_type, size)] = _Group(task_type, size, self._types[task_type][0])
        group.add(_Gathered(item, size_bytes, now_ms))
        self._count += 1

    def pop(self, room: int, now_ms: int, *, only_full: bool = False) -> list[tuple[T, ...]]:
        """The batches that start now, whose oldest task came first first; each is running until `finished`.

        Args:
            room: how many may start.
            now_ms: Unix ms.
            only_full: leave those that are not full and whose time is over, since more may come at once.
        """
        batches: list[tuple[T, ...]] = []
        while len(batches) < room:
            ready = [
                group
                for group in self._groups.values()
                if self._may_start(group.task_type) and (group.is_full or not (only_full or not group.is_due(now_ms)))
            ]
            if not ready:
                break
            group = min(ready, key=lambda group: group.waiting[0].since_ms)
            batch = group.pop()
            if not group.waiting:
                del self._groups[(group.task_type, group.size)]
            self._count -= len(batch)
            self._running[group.task_type] += 1
            batches.append(batch)
        return batches

    def finished(self, task_type: str) -> None:
        """A batch of the type has ended.

        Raises:
            InvariantBroken: none was running.
        """
        if self._running[task_type] < 1:
            raise InvariantBroken(f"a batch of type {task_type!r} finished, but none was running")
        self._running[task_type] -= 1

    def discard(self, predicate: Callable[[T], bool]) -> list[T]:
        """Take out the tasks for which the predicate holds (their partition was revoked), group by group."""
        gone: list[T] = []
        for key, group in list(self._groups.items()):
            waiting, group.waiting = group.waiting, deque()
            group.size_bytes = 0
            for gathered in waiting:
                if predicate(gathered.item):
                    gone.append(gathered.item)
                else:
                    group.add(gathered)
            if not group.waiting:
                del self._groups[key]
        self._count -= len(gone)
        return gone

    def look(self, now_ms: int) -> None:
        """It is now: what is due by time from here on waits for a place to run, and not for `next_due_ms`."""
        self._looked_ms = now_ms

    @property
    def next_due_ms(self) -> int | None:
        """When the next batch may start for the sake of time, later than the last look; None if none will."""
        due = [
            group.due_ms
            for group in self._groups.values()
            if group.due_ms > self._looked_ms and self._may_start(group.task_type)
        ]
        return min(due, default=None)

    def _may_start(self, task_type: str) -> bool:
        limit = self._types[task_type][1]
        return limit is None or self._running[task_type] < limit
