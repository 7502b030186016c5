"""How long lanes and tiers are and how old their oldest task is, from as few records as will do.

Invariant: a topic that is short is counted record by record, since offsets lie: every transaction leaves a marker that
takes one. A long one is estimated by its offsets, and of each partition only its oldest waiting record is read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fairlane.monitor.scan import Partition, Span
from fairlane.monitor.taken import NONE_TAKEN, Taken

COUNTED_SPAN: Final = 1_000
"""A topic whose unsettled offsets span no more than this is counted."""


@dataclass
class _Head:
    """What is known of a partition from its watermark on.

    Attributes:
        position: everything from the watermark to before it was read; its records are `offsets` with their times.
        looked_at: the offset from which the oldest waiting record was looked for, -1 if it was not.
        passed: the records that were passed by since they did not wait.
        oldest: offset and time of the one that was found.
    """

    position: int = 0
    offsets: list[int] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    looked_at: int = -1
    passed: list[int] = field(default_factory=list)
    oldest: tuple[int, int] | None = None

    def forget_below(self, watermark: int) -> None:
        gone = bisect_left(self.offsets, watermark)
        del self.offsets[:gone], self.times_ms[:gone]
        self.position = max(self.position, watermark)

    def knows_oldest(self, start: int, taken: Taken) -> bool:
        """Whether what was found is still the oldest waiting record from `start` on."""
        if self.looked_at != start or self.oldest is None:
            return False
        return not taken.has(self.oldest[0]) and all(taken.has(offset) for offset in self.passed)


@dataclass(frozen=True)
class Wanted:
    """A stretch to read: from `start` on, at most `most` records, to before `stop`; `whole` if that is all of it."""

    start: int
    stop: int
    most: int
    whole: bool


@dataclass(frozen=True)
class Length:
    """Of one topic: how many tasks wait, whether they were counted, when the oldest of them came (Unix ms, 0: none)."""

    waiting: int
    exact: bool
    oldest_ms: int


class Backlog:
    """Remembers what was read of partitions between snapshots, so that what stays is read once."""

    def __init__(self) -> None:
        self._heads: dict[Partition, _Head] = {}
        self._wanted: dict[Partition, Wanted] = {}

    def wanted(self, spans: Mapping[Partition, Span], taken: Mapping[Partition, Taken]) -> dict[Partition, Wanted]:
        """What has to be read before `length` can answer.

        Args:
            spans: watermark and end of each partition.
            taken: what does not wait in it.
        """
        counted = _counted(spans)
        self._wanted = {}
        for partition, (watermark, end) in spans.items():
            head = self._heads.setdefault(partition, _Head())
            head.forget_below(watermark)
            if counted[partition[0]]:
                if head.position < end:
                    self._wanted[partition] = Wanted(head.position, end, COUNTED_SPAN, whole=True)
                continue
            not_waiting = taken.get(partition, NONE_TAKEN)
            start = not_waiting.first_free(watermark)
            if not head.knows_oldest(start, not_waiting):
                head.looked_at, head.passed, head.oldest = start, [], None
                if start < end:
                    most = 1 + sum(offset >= start for offset in not_waiting.running)
                    self._wanted[partition] = Wanted(start, end, most, whole=False)
        return self._wanted

    def add(self, partition: Partition, offset: int, timestamp_ms: int, taken: Mapping[Partition, Taken]) -> None:
        """Take note of a record that was wanted, in the order of its partition."""
        head = self._heads[partition]
        if not self._wanted[partition].whole:
            if head.oldest is None:
                if taken.get(partition, NONE_TAKEN).has(offset):
                    head.passed.append(offset)
                else:
                    head.oldest = offset, timestamp_ms
        elif offset >= head.position:
            head.offsets.append(offset)
            head.times_ms.append(timestamp_ms)
            head.position = offset + 1

    def complete(self) -> None:
        """All that was wanted was read: what was not added of the whole stretches are markers."""
        for partition, wanted in self._wanted.items():
            if wanted.whole:
                self._heads[partition].position = wanted.stop

    def length(self, topic: str, spans: Mapping[Partition, Span], taken: Mapping[Partition, Taken]) -> Length:
        """Of a topic, from what was read and from its offsets; arguments as for `wanted`."""
        waiting, exact, oldest = 0, True, []
        for partition, (watermark, end) in spans.items():
            if partition[0] != topic or watermark >= end:
                continue
            head, not_waiting = self._heads.get(partition, _Head()), taken.get(partition, NONE_TAKEN)
            if head.position >= end:
                times_ms = zip(head.offsets, head.times_ms, strict=True)
                free = [at_ms for offset, at_ms in times_ms if offset < end and not not_waiting.has(offset)]
                waiting += len(free)
                oldest += free[:1]
            else:
                exact = False
                waiting += not_waiting.free(watermark, end)
                oldest += [head.oldest[1]] if head.oldest else []
        return Length(waiting, exact, min(oldest, default=0))


def _counted(spans: Mapping[Partition, Span]) -> dict[str, bool]:
    total: dict[str, int] = {}
    for (topic, _), (watermark, end) in spans.items():
        total[topic] = total.get(topic, 0) + max(0, end - watermark)
    return {topic: span <= COUNTED_SPAN for topic, span in total.items()}
