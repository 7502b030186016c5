"""Which records of a partition are settled, and so how far it may be committed.

Invariant: the watermark is the smallest outstanding offset, and where none is outstanding the position after all that
was delivered; every offset below it is settled, and it never goes back.

Only offsets that were delivered count: a partition has gaps (transaction markers, aborted records, compaction), so
nothing here adds one to an offset and expects a record there. Outstanding offsets are kept in a linked dict in the
order of their delivery, which is ascending: its first key is the watermark, and its size follows what is unfinished,
not the span, so that one task of many hours costs nothing however much passes it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from operator import lt
from types import MappingProxyType

from fairlane.topics.errors import InvariantBroken
from fairlane.topics.offset_map import NO_LOSSES, OffsetMap


class PartitionTracker:
    """Follows the records of one partition from delivery to settlement.

    Args:
        start: the offset that reading starts at.
        restored: the map of the commit that reading starts from. Its unfinished offsets are outstanding from the
            beginning; those that delivery passes over exist no more and are forgotten. The reader skips what it calls
            finished, and snapshots go on calling it so.

    Attributes:
        version: changes whenever a snapshot would say something new; remember it at a commit to see if one is due.
    """

    __slots__ = ("_awaited", "_highest_delivered", "_highest_finished", "_outstanding", "_position", "version")

    def __init__(self, start: int, restored: OffsetMap | None = None) -> None:
        self.version = 0
        self._outstanding: OrderedDict[int, None] = OrderedDict()
        self._highest_finished = start - 1
        if restored is not None:
            if restored.watermark > start:
                raise InvariantBroken(f"start {start} lies below the watermark {restored.watermark} of the map")
            self._highest_finished = max(start - 1, restored.highest_finished)
            self._outstanding.update((offset, None) for offset in restored.unfinished if offset >= start)
        self._awaited = deque(self._outstanding)
        """Restored offsets that were not delivered yet; all of them lie above all that were."""
        self._highest_delivered = self._highest_finished
        self._position = self._highest_finished + 1

    def delivered(self, offsets: Sequence[int]) -> None:
        """Take in records that were read: ascending offsets, none seen before, without those the map calls finished.

        Raises:
            InvariantBroken: an offset was delivered before, is out of order or was restored as finished.
        """
        if not offsets:
            return
        if not all(map(lt, offsets, offsets[1:])):
            raise InvariantBroken(f"delivered offsets do not ascend: {list(offsets[:20])}")
        if offsets[0] < self._position:
            offsets = self._redelivered(offsets)
            if not offsets:
                return
        elif self._awaited:
            self._forget_below(offsets[0])
        self._outstanding.update(dict.fromkeys(offsets))
        self._highest_delivered = offsets[-1]
        self._position = offsets[-1] + 1

    def _redelivered(self, offsets: Sequence[int]) -> Sequence[int]:
        """Take in those that the map restored as unfinished; returns the rest, which lies above the map."""
        again = [offset for offset in offsets if offset < self._position]
        awaited = self._awaited
        for offset in again:
            if not awaited or offset < awaited[0] or offset not in self._outstanding:
                raise InvariantBroken(f"offset {offset} was delivered or finished before")
        for offset in again:
            self._forget_below(offset)
            awaited.popleft()
        rest = offsets[len(again) :]
        if rest:
            self._forget_below(rest[0])
        return rest

    def _forget_below(self, offset: int) -> None:
        awaited = self._awaited
        while awaited and awaited[0] < offset:
            del self._outstanding[awaited.popleft()]
            self.version += 1

    def finished(self, offset: int) -> None:
        """The record at the offset is settled.

        Raises:
            InvariantBroken: the offset is not outstanding.
        """
        if self._awaited and offset >= self._awaited[0]:
            raise InvariantBroken(f"offset {offset} is finished but was not delivered")
        try:
            del self._outstanding[offset]
        except KeyError:
            raise InvariantBroken(f"offset {offset} is finished but is not outstanding") from None
        if offset > self._highest_finished:
            self._highest_finished = offset
        self.version += 1

    def finished_many(self, offsets: Iterable[int]) -> None:
        """The records at these offsets are settled; see `finished`."""
        if self._awaited:
            for offset in offsets:
                self.finished(offset)
            return
        outstanding, highest = self._outstanding, self._highest_finished
        for offset in offsets:
            try:
                del outstanding[offset]
            except KeyError:
                raise InvariantBroken(f"offset {offset} is finished but is not outstanding") from None
            if offset > highest:
                highest = offset
        self._highest_finished = highest
        self.version += 1

    def reached_end(self, end: int) -> None:
        """All that exists below `end`, the position after the last record, was delivered (partition EOF)."""
        self._forget_below(end)
        if end > self._position:
            self._position = end
            if not self._outstanding:
                self.version += 1

    @property
    def watermark(self) -> int:
        """The offset to commit."""
        return next(iter(self._outstanding), self._position)

    @property
    def oldest(self) -> int | None:
        """The smallest outstanding offset, if any is."""
        return next(iter(self._outstanding), None)

    @property
    def outstanding(self) -> int:
        """How many records were delivered or restored and are not settled."""
        return len(self._outstanding)

    @property
    def span(self) -> int:
        """How far the highest record known lies above the watermark."""
        return max(0, self._highest_delivered - self.watermark)

    def snapshot(self, clean: bool, losses: Mapping[int, int] = NO_LOSSES) -> OffsetMap:
        """What to commit now.

        Args:
            clean: whether this is the owner's last word; True only when it leaves in order.
            losses: offset -> workers that died on it; those of settled records are left out.
        """
        watermark, highest = self.watermark, self._highest_finished
        if highest < watermark:
            unfinished: tuple[int, ...] = ()
            highest = watermark - 1
        else:
            # The highest itself too: in a map that was restored it may be one that is still open.
            unfinished = tuple(takewhile(highest.__ge__, self._outstanding))
        if not losses:
            return OffsetMap(watermark, highest, unfinished, NO_LOSSES, clean)
        outstanding, position = self._outstanding, self._position
        unsettled = {offset: n for offset, n in losses.items() if offset in outstanding or offset >= position}
        return OffsetMap(watermark, highest, unfinished, MappingProxyType(unsettled), clean)
