"""When a fresh worker starts its first task: the most urgent lane is to go first, whichever was read first.

Invariant: it has begun once every lane was read to its end, or as far ahead as it may be, and a commit has announced
the new owner of all that came; at the latest when a time has passed since the first partition came. What has begun
stays so.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairlane.consumer.delivery import Assigned


class Beginning:
    """The beginning of one worker.

    Args:
        wait_ms: how long it waits at most: from its first partition on, since joining the group may take longer, and
            the lane that happens to be read first would go first.
    """

    __slots__ = ("_announcing", "_caught_up", "_due_ms", "_wait_ms", "begun")

    def __init__(self, wait_ms: int) -> None:
        self.begun = False
        self._wait_ms = wait_ms
        self._due_ms: int | None = None
        self._caught_up = False
        self._announcing: set[Assigned] = set()

    def came(self, announcing: Iterable[Assigned], now_ms: int) -> None:
        """A partition came; those of which nothing may run before a commit says that they have a new owner."""
        if self._due_ms is None:
            self._due_ms = now_ms + self._wait_ms
        self._announcing.update(announcing)

    def announced(self, assigned: Iterable[Assigned]) -> None:
        """A commit has said it of these, or they have left."""
        # A commit may announce some partitions and the next one the rest, those of the most urgent lane perhaps.
        self._announcing.difference_update(assigned)

    def caught_up(self) -> None:
        """Every lane was read to its end, or as far ahead as it may be."""
        self._caught_up = True

    def look(self, now_ms: int) -> None:
        """See whether it begins."""
        waited = self._due_ms is not None and now_ms >= self._due_ms
        self.begun |= waited or (self._caught_up and not self._announcing)

    @property
    def due_ms(self) -> int | None:
        """When it begins without anybody's word; None where it has begun, or nothing has come."""
        return None if self.begun else self._due_ms
