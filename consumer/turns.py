"""Turns: which partitions of a lane are read while it is nearly as far ahead as it may be.

A lane whose handlers are the limit needs few records at a time, and each partition that is resumed brings a whole
fetch. Resumed all at once, they would bring many times what there is room for: it would wait in front of more urgent
lanes, in the one queue that a Kafka consumer has, and most of it would be thrown away when they are paused again.

Invariant: a lane that was full gives as many turns as fetches fit into its room, to the partitions that wait longest,
and a turn ends after one fetch. A lane that runs low in spite of that is read in full again, so turns never are the
limit. A partition that was read to its end needs no turn: what comes of it is new, and little.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

FETCH_BYTES: Final = 131_072
"""How much a fetch brings of a partition at most."""
_MEAN_OF: Final = 1_000
"""Over about so many records the size of one is averaged."""


class Limit(NamedTuple):
    """The bound of one account: it fills up to `high` records and is read again in full at `low`."""

    high: int
    low: int


class Turn:
    """How one partition is read.

    Attributes:
        is_at_end: nothing of it is unread.
        is_on: it has its turn.
        came: records that came in this turn.
        number: of the turns that the lane had given when its last one ended; -1 before the first.
    """

    __slots__ = ("came", "is_at_end", "is_on", "number")

    def __init__(self) -> None:
        self.is_at_end = False
        self.is_on = False
        self.came = 0
        self.number = -1


class Turns:
    """One lane's.

    Args:
        limit: of the records that wait in this process; it may be set anew between two looks.
        takes_turns: whether there are turns at all; otherwise the lane is read in full from `low` on.
    """

    def __init__(self, limit: Limit, *, takes_turns: bool) -> None:
        self.limit = limit
        self._takes_turns = takes_turns
        self._ended = 0
        self._record_bytes = 300.0
        self.is_full = False
        """It was full, and did not run low since: its partitions are paused, but for those that have a turn."""

    @property
    def fetch(self) -> int:
        """About how many records a fetch brings."""
        return max(1, int(FETCH_BYTES / self._record_bytes))

    def handed(self, records: int, size_bytes: int) -> None:
        """Records were handed on."""
        weight = min(1.0, records / _MEAN_OF)
        self._record_bytes += weight * (size_bytes / max(1, records) - self._record_bytes)

    def came(self, turn: Turn, records: int) -> None:
        """Records of a partition were read."""
        turn.is_at_end = False
        if turn.is_on:
            turn.came += records
            if turn.came >= self.fetch:
                self._end(turn)

    def reached_end(self, turn: Turn) -> None:
        """A partition was read to its end."""
        turn.is_at_end = True
        if turn.is_on:
            self._end(turn)

    def look(self, waiting: int) -> bool:
        """See how far ahead the lane is.

        Args:
            waiting: records of the lane that wait in this process.

        Returns:
            Whether turns are to be given.
        """
        if waiting <= self.limit.low:
            self.is_full = False
        elif waiting >= self.limit.high:
            self.is_full = True
        return self.is_full and self._takes_turns

    def give(self, waiting: int, partitions: Collection[Turn]) -> None:
        """Give turns, as many as there is room for.

        Args:
            waiting: records of the lane that wait in this process.
            partitions: those of the lane that nothing else keeps from being read.
        """
        room = (self.limit.high - waiting) // self.fetch
        if room <= 0 and waiting <= self.limit.high // 2:
            room = 1  # A fetch is larger than the lane's whole share.
        on = [each for each in partitions if each.is_on]
        for turn in on[max(0, room) :]:
            turn.is_on = False  # It waits longest still: it goes on with what is left of its turn.
        if room > len(on):
            unread = sorted((each for each in partitions if not each.is_on and not each.is_at_end), key=_longest)
            for turn in unread[: room - len(on)]:
                turn.is_on = True

    def may_read(self, turn: Turn, waiting: int) -> bool:
        """Whether a partition is read now."""
        if not self.is_full:
            return True
        if not self._takes_turns or waiting >= self.limit.high:
            return False
        return turn.is_on or turn.is_at_end

    def _end(self, turn: Turn) -> None:
        self._ended += 1
        turn.is_on, turn.came, turn.number = False, 0, self._ended


def _longest(turn: Turn) -> int:
    return turn.number
