"""What may be committed of a partition: the tracker, alone and against a model that keeps everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from properties import thorough

from fairlane.consumer.tracker import PartitionTracker
from fairlane.topics.errors import InvariantBroken
from fairlane.topics.offset_map import OffsetMap, decode, encode


def test_the_watermark_is_the_smallest_outstanding_offset() -> None:
    tracker = PartitionTracker(0)
    tracker.delivered([0, 1, 2])
    tracker.finished(1)
    assert tracker.watermark == 0
    tracker.finished(0)
    assert tracker.watermark == 2


def test_gaps_left_by_markers_never_hold_the_watermark() -> None:
    """As measured: the records of small transactions sit at 2, 4, 6, 10, with markers and aborted ones between."""
    tracker = PartitionTracker(0)
    tracker.delivered([2, 4, 6, 10])
    tracker.finished_many([2, 4, 6])
    assert tracker.watermark == 10
    tracker.finished(10)
    assert tracker.watermark == 11


def test_at_the_end_of_the_partition_the_watermark_is_the_end_so_that_lag_is_zero() -> None:
    tracker = PartitionTracker(0)
    tracker.delivered([2, 198])
    tracker.reached_end(200)
    tracker.finished(2)
    assert tracker.watermark == 198
    tracker.finished(198)
    assert tracker.watermark == 200


def test_the_end_counts_too_when_all_was_settled_before_it_was_seen() -> None:
    tracker = PartitionTracker(5)
    assert tracker.watermark == 5
    tracker.reached_end(9)
    assert tracker.watermark == 9


def test_an_end_that_is_news_of_the_past_changes_nothing() -> None:
    tracker = PartitionTracker(0)
    tracker.delivered([7])
    tracker.finished(7)
    tracker.reached_end(3)
    assert tracker.watermark == 8


def test_a_snapshot_lists_the_unfinished_below_the_highest_finished() -> None:
    tracker = PartitionTracker(0)
    tracker.delivered([0, 1, 2, 3, 4])
    tracker.finished_many([1, 3])
    assert tracker.snapshot(clean=False) == OffsetMap(0, 3, (0, 2), {}, clean=False)
    tracker.finished(0)
    assert tracker.snapshot(clean=True) == OffsetMap(2, 3, (2,), {}, clean=True)


def test_a_snapshot_with_nothing_finished_above_the_watermark_is_empty() -> None:
    tracker = PartitionTracker(10)
    tracker.delivered([10, 11])
    assert tracker.snapshot(clean=False) == OffsetMap(10, 9)


def test_losses_of_settled_records_leave_the_snapshot_and_those_not_read_yet_stay() -> None:
    tracker = PartitionTracker(0)
    tracker.delivered([0, 1])
    tracker.finished(1)
    assert tracker.snapshot(clean=False, losses={0: 1, 1: 2, 5: 3}).losses == {0: 1, 5: 3}


def test_a_snapshot_stays_what_it_was_when_losses_are_counted_on() -> None:
    tracker = PartitionTracker(0)
    tracker.delivered([0, 1])
    losses: dict[int, int] = {}
    before, losses[0] = tracker.snapshot(clean=False, losses=losses), 1
    assert before.losses == {}
    then = tracker.snapshot(clean=False, losses=losses)
    losses[1] = 1
    assert then.losses == {0: 1}


def test_a_restored_map_goes_on_where_its_writer_was() -> None:
    tracker = PartitionTracker(10, OffsetMap(10, 20, (10, 15)))
    assert (tracker.watermark, tracker.outstanding, tracker.span) == (10, 2, 10)
    assert tracker.snapshot(clean=False) == OffsetMap(10, 20, (10, 15))
    tracker.delivered([10, 15, 22])
    tracker.finished(10)
    assert tracker.snapshot(clean=False) == OffsetMap(15, 20, (15,))
    tracker.finished(15)
    assert tracker.watermark == 22


def test_a_restored_map_whose_highest_offset_is_not_settled_goes_on_saying_so() -> None:
    """A commit that sets it apart for a later transaction says so, and one that was cut to fit may."""
    tracker = PartitionTracker(10, OffsetMap(10, 20, (10, 20)))
    assert tracker.snapshot(clean=False) == OffsetMap(10, 20, (10, 20))
    tracker.delivered([10, 20])
    tracker.finished(10)
    assert tracker.snapshot(clean=False) == OffsetMap(20, 20, (20,))
    tracker.finished(20)
    assert tracker.snapshot(clean=False) == OffsetMap(21, 20)


def test_a_restored_offset_that_delivery_passes_over_is_gone() -> None:
    """Compaction, DeleteRecords and retention take records away that the map still knew."""
    tracker = PartitionTracker(10, OffsetMap(10, 20, (10, 15, 18)))
    tracker.delivered([15])
    assert (tracker.watermark, tracker.outstanding) == (15, 2)
    tracker.finished(15)
    assert tracker.watermark == 18
    tracker.reached_end(30)
    assert (tracker.watermark, tracker.outstanding) == (30, 0)


def test_a_map_whose_beginning_was_deleted_is_kept_from_the_start_on() -> None:
    tracker = PartitionTracker(14, OffsetMap(10, 20, (10, 15)))
    assert (tracker.watermark, tracker.outstanding) == (15, 1)
    past_all_of_it = PartitionTracker(40, OffsetMap(10, 20, (10, 15)))
    assert past_all_of_it.snapshot(clean=False) == OffsetMap(40, 39)


def test_reading_on_from_far_above_forgets_all_that_was_restored() -> None:
    for first in ([30, 31], [18, 30]):
        tracker = PartitionTracker(10, OffsetMap(10, 20, (10, 15, 18, 19)))
        tracker.delivered(first)
        assert (tracker.watermark, tracker.outstanding) == (first[0], 2)


def test_after_all_restored_ones_the_watermark_passes_what_the_map_called_finished() -> None:
    tracker = PartitionTracker(10, OffsetMap(10, 20, (10,)))
    tracker.delivered([10])
    tracker.finished(10)
    assert tracker.watermark == 21


def test_the_version_tells_whether_a_commit_would_say_anything_new() -> None:
    tracker = PartitionTracker(0, OffsetMap(0, 4, (0, 2)))
    steps: list[tuple[Callable[[], None], bool]] = [
        (lambda: tracker.delivered([2]), True),  # 0 is gone: the watermark moves
        (lambda: tracker.delivered([5, 6]), False),  # nothing is settled by being read
        (lambda: tracker.finished(6), True),
        (lambda: tracker.reached_end(10), False),  # all of it is still behind 2
        (lambda: tracker.finished_many([2, 5]), True),
        (lambda: tracker.reached_end(10), False),  # known already
        (lambda: tracker.reached_end(12), True),  # nothing outstanding: the watermark moves
    ]
    for number, (step, news) in enumerate(steps):
        before = tracker.version
        step()
        assert (tracker.version != before) == news, f"step {number}"


@pytest.mark.parametrize(
    "bug",
    [
        lambda tracker: tracker.finished(3),  # never delivered
        lambda tracker: tracker.finished(10),  # finished before
        lambda tracker: tracker.finished(13),  # restored, but not delivered
        lambda tracker: tracker.delivered([11]),  # delivered before
        lambda tracker: tracker.delivered([12]),  # the map calls it finished
        lambda tracker: tracker.delivered([30, 29]),  # out of order
        lambda tracker: tracker.delivered([13, 14]),  # 13 is fine, 14 is finished
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(bug: Any) -> None:
    tracker = PartitionTracker(10, OffsetMap(10, 20, (10, 11, 13)))
    tracker.delivered([10, 11])
    tracker.finished(10)
    before = (tracker.snapshot(clean=False), tracker.outstanding, tracker.version)
    with pytest.raises(InvariantBroken, match="bug in fairlane"):
        bug(tracker)
    assert (tracker.snapshot(clean=False), tracker.outstanding, tracker.version) == before
    tracker.delivered([13])
    tracker.finished(13)


def test_a_map_from_above_the_start_is_refused() -> None:
    with pytest.raises(InvariantBroken):
        PartitionTracker(5, OffsetMap(10, 20, (10,)))


def test_one_task_of_many_hours_costs_no_memory_for_what_passes_it() -> None:
    tracker = PartitionTracker(0)
    tracker.delivered([0])
    for offset in range(1, 50_000, 100):
        tracker.delivered(range(offset, offset + 100))
        tracker.finished_many(range(offset, offset + 100))
    assert (tracker.outstanding, tracker.watermark, tracker.span) == (1, 0, 50_000)
    assert len(tracker._outstanding) == 1
    assert encode(tracker.snapshot(clean=False)) < "fl1:" + 40 * "z"


class TrackedPartition(RuleBasedStateMachine):
    """A partition with gaps, read by one owner after another, against a model that remembers each record by itself.

    Goal: no watermark and no map ever calls a record settled that is not, none goes back, and what is settled and
    committed is never read twice. Method: a log of records at random offsets; owners read it, settle in any order,
    see the end, commit, and hand over through the text of the commit; some records vanish between owners.
    """

    @initialize(start=st.integers(0, 3))
    def begin(self, start: int) -> None:
        self.log: list[int] = []
        self.end = start
        self.settled: set[int] = set()
        self.committed = OffsetMap(start, start - 1)
        self.take_over(start, None)

    def take_over(self, start: int, restored: OffsetMap | None) -> None:
        self.tracker = PartitionTracker(start, restored)
        self.restored = restored
        self.position = start
        self.told = start
        """Below it the tracker knows all that was read; it is not told of records that are skipped."""
        self.running: set[int] = set()
        self.inherited = set(self.settled)
        self.watermark_before = self.tracker.watermark

    @rule(gaps=st.lists(st.integers(0, 4), max_size=12), marker=st.integers(0, 2))
    def append(self, gaps: list[int], marker: int) -> None:
        for gap in gaps:
            self.log.append(self.end + gap)
            self.end += gap + 1
        self.end += marker

    @rule(count=st.integers(1, 10))
    def read(self, count: int) -> None:
        batch = [offset for offset in self.log if offset >= self.position][:count]
        if batch:
            self.position = batch[-1] + 1
            fresh = [offset for offset in batch if self.restored is None or not self.restored.finished(offset)]
            assert not self.inherited & set(fresh), "read again although a commit called it settled"
            self.tracker.delivered(fresh)
            self.told = fresh[-1] + 1 if fresh else self.told
            self.running.update(fresh)

    @precondition(lambda self: not any(offset >= self.position for offset in self.log))
    @rule()
    def see_the_end(self) -> None:
        self.position = self.told = self.end
        self.tracker.reached_end(self.end)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.running)))
        self.running.remove(offset)
        self.settled.add(offset)
        self.tracker.finished(offset)

    @rule()
    def commit(self) -> None:
        self.committed = self.tracker.snapshot(clean=False)

    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        """A new owner knows only what the last commit said; what was settled after it is run again."""
        vanished = data.draw(st.sets(st.sampled_from(self.log), max_size=3)) if self.log else set()
        note(f"vanished {vanished}")
        self.log = [offset for offset in self.log if offset not in vanished]
        watermark, text = self.committed.watermark, encode(self.committed)
        restored = decode(watermark, text)
        assert restored == self.committed
        self.settled = {offset for offset in self.settled if restored.finished(offset)}
        self.take_over(watermark, restored)

    @invariant()
    def a_snapshot_calls_settled_what_is_and_nothing_else(self) -> None:
        known = self.tracker.snapshot(clean=False)
        assert {offset for offset in self.log if known.finished(offset)} == self.settled & set(self.log)

    @property
    def open(self) -> set[int]:
        """What runs, and what the map left unfinished and reading has not come to yet."""
        left = self.restored.unfinished if self.restored else ()
        return self.running | {offset for offset in left if offset >= self.told}

    @invariant()
    def the_watermark_is_the_smallest_open_offset_and_never_goes_back(self) -> None:
        known_to = max(self.told, self.restored.highest_finished + 1 if self.restored else 0)
        assert self.tracker.watermark == min(self.open, default=known_to)
        assert self.tracker.watermark >= self.watermark_before
        self.watermark_before = self.tracker.watermark

    @invariant()
    def what_is_open_is_outstanding(self) -> None:
        assert self.tracker.outstanding == len(self.open)
        assert self.tracker.oldest == min(self.open, default=None)


TestTrackedPartition = TrackedPartition.TestCase
TestTrackedPartition.settings = thorough(400, steps=40)
