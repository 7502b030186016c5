"""How long a topic is: counted while it is short, whatever markers, settlements and looks come in which order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.monitor.backlog import COUNTED_SPAN, Backlog, Length
from fairlane.monitor.taken import NONE_TAKEN, Taken
from fairlane.topics.offset_map import OffsetMap

PARTITION = ("shop.p5", 0)
OTHER = ("shop.p5", 1)


@dataclass
class Log:
    """A partition as the broker has it: offsets of records; those between are markers."""

    records: list[int] = field(default_factory=list)
    end: int = 0
    watermark: int = 0
    reads: int = 0

    def append(self, records: int, markers: int) -> None:
        for _ in range(records):
            self.records.append(self.end)
            self.end += 1
        self.end += markers

    def waiting(self) -> list[int]:
        return [offset for offset in self.records if offset >= self.watermark]


def look(backlog: Backlog, log: Log, taken: Taken = NONE_TAKEN) -> tuple[int, bool, int]:
    spans, by_partition = {PARTITION: (log.watermark, log.end)}, {PARTITION: taken}
    for partition, wanted in backlog.wanted(spans, by_partition).items():
        read = [offset for offset in log.records if wanted.start <= offset < wanted.stop][: wanted.most]
        log.reads += len(read)
        for offset in read:
            backlog.add(partition, offset, offset + 1_000, by_partition)
    backlog.complete()
    length = backlog.length(PARTITION[0], spans, by_partition)
    return length.waiting, length.exact, length.oldest_ms


class Step(NamedTuple):
    records: int
    markers: int
    settled: float
    running: int
    finished: list[int]
    looks: bool


steps = st.lists(
    st.builds(
        Step, st.integers(0, 40), st.integers(0, 5), st.floats(0, 1), st.integers(0, 3),
        st.lists(st.integers(0, 60), max_size=20), st.booleans(),
    ),
    max_size=20,
)  # fmt: skip


def taken_of(waiting: list[int], step: Step) -> Taken:
    """The first few records run, and some of those behind them are finished."""
    running = frozenset(waiting[: step.running])
    finished = sorted({waiting[each] for each in step.finished if step.running <= each < len(waiting)})
    if not finished:
        return Taken(running)
    unfinished = tuple(offset for offset in waiting if offset < finished[-1] and offset not in finished)
    return Taken(running, OffsetMap(waiting[0], finished[-1], unfinished))


@given(steps)
def test_a_short_topic_is_counted_exactly_and_each_record_read_once(steps: list[Step]) -> None:
    backlog, log = Backlog(), Log()
    for step in steps:
        log.append(step.records, step.markers)
        log.watermark += round((log.end - log.watermark) * step.settled)
        taken = taken_of(log.waiting(), step)
        if step.looks:
            free = [offset for offset in log.waiting() if not taken.has(offset)]
            assert look(backlog, log, taken) == (len(free), True, free[0] + 1_000 if free else 0)
    assert log.reads <= len(log.records)


@given(steps)
def test_a_long_topic_is_estimated_from_above_and_its_oldest_is_found(steps: list[Step]) -> None:
    backlog, log = Backlog(), Log()
    log.append(COUNTED_SPAN + 1, 0)
    for step in steps:
        log.append(step.records, step.markers)
        log.watermark += round((log.end - log.watermark - COUNTED_SPAN - 1) * step.settled)
        taken = taken_of(log.waiting(), step)
        if step.looks:
            free = [offset for offset in log.waiting() if not taken.has(offset)]
            length, exact, oldest_ms = look(backlog, log, taken)
            assert not exact
            markers = log.end - log.watermark - len(log.waiting())
            assert len(free) <= length <= len(free) + markers
            assert oldest_ms == free[0] + 1_000


def test_a_head_that_stays_is_read_once() -> None:
    backlog, log = Backlog(), Log()
    log.append(COUNTED_SPAN * 2, 0)
    for _ in range(5):
        look(backlog, log)
        log.append(100, 0)
    assert log.reads == 1


def test_a_topic_that_becomes_short_is_counted() -> None:
    backlog, log = Backlog(), Log()
    log.append(COUNTED_SPAN, 50)
    assert look(backlog, log)[:2] == (COUNTED_SPAN + 50, False)
    log.watermark = 100
    assert look(backlog, log)[:2] == (COUNTED_SPAN - 100, True)


def test_partitions_of_a_topic_are_added_up() -> None:
    backlog = Backlog()
    spans = {PARTITION: (0, 2), OTHER: (5, 6)}
    backlog.wanted(spans, {})
    backlog.add(PARTITION, 0, 1_000, {})
    backlog.add(OTHER, 5, 900, {})
    backlog.complete()
    length = backlog.length("shop.p5", spans, {})
    assert (length.waiting, length.oldest_ms) == (2, 900)


def test_a_stretch_that_was_not_read_to_its_end_is_an_estimate_and_is_read_on() -> None:
    backlog = Backlog()
    spans = {PARTITION: (0, 10)}
    backlog.wanted(spans, {})
    backlog.add(PARTITION, 0, 1_000, {})
    assert backlog.length("shop.p5", spans, {}) == Length(10, False, 0)
    assert backlog.wanted(spans, {})[PARTITION].start == 1


def test_a_running_record_outside_of_the_span_counts_for_nothing() -> None:
    backlog, log = Backlog(), Log()
    log.append(3, 0)
    log.watermark = 2
    assert look(backlog, log, Taken(frozenset({0, 1})))[0] == 1


@pytest.mark.parametrize(
    ("settled", "running", "end", "free"),
    [
        (None, (), 100, 90),
        (None, (10, 11, 5), 100, 88),  # one that runs is below the watermark
        (OffsetMap(10, 49, (10, 20)), (), 100, 52),
        (OffsetMap(10, 49, (10, 20)), (10,), 100, 51),
        (OffsetMap(10, 49, (10, 20)), (30,), 100, 52),  # a late heartbeat: it is finished
        (OffsetMap(10, 49, (10, 20)), (), 15, 1),  # before a place within the map
        (OffsetMap(10, 9), (), 100, 90),  # a map that knows nothing above the watermark
    ],
)
def test_an_estimate_leaves_out_what_is_known(
    settled: OffsetMap | None, running: tuple[int, ...], end: int, free: int
) -> None:
    assert Taken(frozenset(running), settled).free(10, end) == free
