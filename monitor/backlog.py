"""How long lanes and tiers are and how old their oldest task is, from as few records as will do.

Invariant: a topic that is short is counted record by record, since offsets lie: every transaction leaves a marker that
takes one. A long one is estimated by its offsets, and only the head of each partition is read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from fairlane.monitor.scan import Partition, Span

COUNTED_SPAN: Final = 1_000
"""A topic whose unsettled offsets span no more than this is counted."""


@dataclass
class _Head:
    """What is known of a partition from its watermark on: offsets and timestamps of records, read up to `position`."""

    position: int = 0
    offsets: list[int] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)

    def forget_below(self, watermark: int) -> None:
        gone = bisect_left(self.offsets, watermark)
        del self.offsets[:gone], self.times_ms[:gone]


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
    """Remembers the heads of partitions between snapshots, so that a head that stays is read once."""

    def __init__(self) -> None:
        self._heads: dict[Partition, _Head] = {}

    def wanted(
        self,
        spans: Mapping[Partition, Span],
        running: Mapping[Partition, Collection[int]],
    ) -> dict[Partition, Wanted]:
        """What has to be read before `length` can answer.

        Args:
            spans: watermark and end of each partition.
            running: offsets of records that are known to run.
        """
        counted = _counted(spans)
        wanted = {}
        for partition, (watermark, end) in spans.items():
            head = self._heads.setdefault(partition, _Head())
            head.forget_below(watermark)
            if watermark >= end:
                continue
            if head.position < watermark or not head.offsets:
                # A gap between what was read and the watermark: what is known of it is of no use.
                head.offsets.clear()
                head.times_ms.clear()
                head.position = max(watermark, head.position if counted[partition[0]] else watermark)
            most = COUNTED_SPAN if counted[partition[0]] else 1 + len(running.get(partition, ())) - len(head.offsets)
            if head.position < end and most > 0:
                wanted[partition] = Wanted(head.position, end, most, whole=counted[partition[0]])
        return wanted

    def add(self, partition: Partition, offset: int, timestamp_ms: int) -> None:
        """Take note of a record that was read, in the order of its partition."""
        head = self._heads[partition]
        if offset >= head.position:
            head.offsets.append(offset)
            head.times_ms.append(timestamp_ms)
            head.position = offset + 1

    def reached(self, partition: Partition, end: int) -> None:
        """The partition was read to `end`: what lies before it and was not added are markers."""
        head = self._heads[partition]
        head.position = max(head.position, end)

    def length(
        self,
        topic: str,
        spans: Mapping[Partition, Span],
        running: Mapping[Partition, Collection[int]],
    ) -> Length:
        """Of a topic, from what was read and from its offsets.

        Args:
            topic: the topic.
            spans: as for `wanted`.
            running: as for `wanted`.
        """
        waiting, exact, oldest_ms = 0, True, 0
        for partition, (watermark, end) in spans.items():
            if partition[0] != topic or watermark >= end:
                continue
            head = self._heads.get(partition, _Head())
            busy = [offset for offset in running.get(partition, ()) if watermark <= offset < end]
            free = [at for offset, at in zip(head.offsets, head.times_ms, strict=True) if offset not in busy]
            if head.position >= end:
                waiting += len(free)
            else:
                exact = False
                waiting += max(0, end - watermark - len(busy))
            if free:
                oldest_ms = min(oldest_ms, free[0]) if oldest_ms else free[0]
        return Length(waiting, exact, oldest_ms)


def _counted(spans: Mapping[Partition, Span]) -> dict[str, bool]:
    total: dict[str, int] = {}
    for (topic, _), (watermark, end) in spans.items():
        total[topic] = total.get(topic, 0) + max(0, end - watermark)
    return {topic: span <= COUNTED_SPAN for topic, span in total.items()}
