"""Which records above a partition's watermark do not wait: those that run, and those that are finished already.

Invariant: it is asked about offsets from the watermark on, and never calls waiting what the group's offset map calls
finished.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairlane.topics.offset_map import OffsetMap, decode


def map_of(watermark: int, metadata: str, end: int) -> OffsetMap | None:
    """The map of a commit; None where there is none that can be trusted: one that speaks of offsets past the end."""
    settled = decode(watermark, metadata)
    return settled if settled is not None and settled.within(end) else None


@dataclass(frozen=True)
class Taken:
    """What does not wait in one partition.

    Attributes:
        running: offsets of records that are known to run.
        settled: the offset map of the group's commit, where it has one.
    """

    running: frozenset[int] = frozenset()
    settled: OffsetMap | None = None

    def has(self, offset: int) -> bool:
        """Whether the record at the offset runs or is finished."""
        return offset in self.running or (self.settled is not None and self.settled.finished(offset))

    def first_free(self, watermark: int) -> int:
        """An offset from the watermark on before which nothing waits."""
        if self.settled is None:
            return watermark
        for offset in self.settled.unfinished:
            if offset >= watermark and offset not in self.running:
                return offset
        return max(watermark, self.settled.highest_finished + 1)

    def free(self, watermark: int, end: int) -> int:
        """How many offsets from the watermark to the end may wait: an estimate from above."""
        running = sum(watermark <= offset < end and not self._settled(offset) for offset in self.running)
        unknown, known = end - watermark, 0
        if self.settled is not None and self.settled.highest_finished >= watermark:
            known = sum(watermark <= offset < end for offset in self.settled.unfinished)
            unknown = max(0, end - self.settled.highest_finished - 1)
        return max(0, unknown + known - running)

    def _settled(self, offset: int) -> bool:
        return self.settled is not None and self.settled.finished(offset)


NONE_TAKEN = Taken()
