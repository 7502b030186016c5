"""Which idle child processes are used next, and which have been idle for long enough to be ended.

Invariant: the child that was used last is used first, so one that has been idle for `idle_s` was not needed for as
long: with one less, no attempt would have waited. Only such children are due, and one of each kind always stays. They
go a few at a time, a tenth of those that are due, or one, in each tenth of `idle_s`. So a load that needs all children
once in `idle_s` never starts one again; one that comes back soon after that finds most of them; and whatever the load
is, children are ended no more often than all of them, or ten, in `idle_s`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

KEPT: Final = 1
"""Idle children of each kind that stay for ever: its next task starts at once."""
STEPS: Final = 10
"""Into how many steps an idle time is cut, and what part of those that are due goes at each."""

ChildT = TypeVar("ChildT", bound=Hashable)


class IdleChildren(Generic[ChildT]):
    """The children that wait for something to do.

    Args:
        idle_s: after how long one that nobody needed is due, seconds; None is never.
    """

    def __init__(self, idle_s: float | None) -> None:
        self._idle_s = idle_s
        self._by_kind: dict[str, list[tuple[float, ChildT]]] = {}
        self._next_step = 0.0

    def __len__(self) -> int:
        """How many wait; any thread."""
        return sum(map(len, list(self._by_kind.values())))

    def of(self, kind: str) -> list[ChildT]:
        """Those of a kind; the one that has been idle longest first."""
        return [child for _, child in self._by_kind.get(kind, ())]

    def put(self, kind: str, child: ChildT, now: float) -> None:
        """A child has nothing to do any more.

        Args:
            kind: what it is for.
            child: the child.
            now: seconds; never less than before.
        """
        self._by_kind.setdefault(kind, []).append((now, child))

    def take(self, kind: str) -> ChildT | None:
        """The child of a kind that was used last, which is no idle one any more; None if there is none."""
        waiting = self._by_kind.get(kind)
        return waiting.pop()[1] if waiting else None

    def take_longest(self) -> ChildT | None:
        """The one that has been idle longest, of any kind, also one that would be kept; None if there is none."""
        waiting = min(filter(None, self._by_kind.values()), key=lambda each: each[0][0], default=None)
        return waiting.pop(0)[1] if waiting else None

    def take_all(self) -> list[ChildT]:
        """All of them."""
        found = [child for waiting in self._by_kind.values() for _, child in waiting]
        self._by_kind.clear()
        return found

    def take_due(self, now: float) -> list[ChildT]:
        """Those that are to be ended now, and are no idle ones any more.

        Args:
            now: seconds.
        """
        if self._idle_s is None or now < self._next_step:
            return []
        due = sorted(
            (since, kind)
            for kind, waiting in self._by_kind.items()
            for since, _ in waiting[:-KEPT]
            if since + self._idle_s <= now
        )
        if not due:
            return []
        self._next_step = now + self._idle_s / STEPS
        # Those of a kind wait in order, so the first that is due is the first of its kind.
        return [self._by_kind[kind].pop(0)[1] for _, kind in due[: max(1, len(due) // STEPS)]]

    def next_at(self) -> float | None:
        """The moment at which one is due if none is taken before, seconds; None if none ever is."""
        spare = [waiting[0][0] for waiting in self._by_kind.values() if len(waiting) > KEPT]
        return max(min(spare) + self._idle_s, self._next_step) if self._idle_s is not None and spare else None
