"""How long a topic is: counted while it is short, whatever markers, settlements and looks come in which order."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from fairlane.monitor.backlog import COUNTED_SPAN, Backlog

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


def look(backlog: Backlog, log: Log, running: frozenset[int] = frozenset()) -> tuple[int, bool, int]:
    spans = {PARTITION: (log.watermark, log.end)}
    busy = {PARTITION: running}
    for partition, wanted in backlog.wanted(spans, busy).items():
        read = [offset for offset in log.records if wanted.start <= offset < wanted.stop][: wanted.most]
        log.reads += len(read)
        for offset in read:
            backlog.add(partition, offset, offset + 1_000)
        if wanted.whole:
            backlog.reached(partition, wanted.stop)
    length = backlog.length(PARTITION[0], spans, busy)
    return length.waiting, length.exact, length.oldest_ms


steps = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 5), st.floats(0, 1), st.integers(0, 3), st.booleans()), max_size=20
)


@given(steps)
def test_a_short_topic_is_counted_exactly_and_each_record_read_once(
    steps: list[tuple[int, int, float, int, bool]],
) -> None:
    backlog, log = Backlog(), Log()
    for records, markers, settled, running, looks in steps:
        log.append(records, markers)
        log.watermark += round((log.end - log.watermark) * settled)
        waiting = log.waiting()
        if looks:
            busy = frozenset(waiting[:running])
            free = [offset for offset in waiting if offset not in busy]
            assert look(backlog, log, busy) == (len(free), True, free[0] + 1_000 if free else 0)
    assert log.reads <= len(log.records)


@given(steps)
def test_a_long_topic_is_estimated_from_above_and_its_oldest_is_found(
    steps: list[tuple[int, int, float, int, bool]],
) -> None:
    backlog, log = Backlog(), Log()
    log.append(COUNTED_SPAN + 1, 0)
    for records, markers, settled, running, looks in steps:
        log.append(records, markers)
        log.watermark += round((log.end - log.watermark - COUNTED_SPAN - 1) * settled)
        waiting = log.waiting()
        if looks:
            busy = frozenset(waiting[:running])
            length, exact, oldest_ms = look(backlog, log, busy)
            assert not exact
            assert length == log.end - log.watermark - len(busy)
            assert oldest_ms == waiting[len(busy)] + 1_000


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
    backlog.add(PARTITION, 0, 1_000)
    backlog.add(OTHER, 5, 900)
    backlog.reached(PARTITION, 2)
    backlog.reached(OTHER, 6)
    length = backlog.length("shop.p5", spans, {})
    assert (length.waiting, length.oldest_ms) == (2, 900)


def test_a_running_record_outside_of_the_span_counts_for_nothing() -> None:
    backlog, log = Backlog(), Log()
    log.append(3, 0)
    log.watermark = 2
    assert look(backlog, log, frozenset({0, 1}))[0] == 1
