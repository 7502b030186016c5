"""Fair reading: lanes are read by their weights where reading limits, and nobody waits for who gives nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.consumer.fair_reading import BACKLOG, EMPTY_POLLS, FairReading
from fairlane.topics.names import DEFAULT_WEIGHTS

LANES = {f"p{level}": weight for level, weight in DEFAULT_WEIGHTS.items()}
SUM = sum(LANES.values())
WINDOW = 3_100
BATCH = 500


def reading(backlog: int = 1) -> FairReading[int]:
    return FairReading(LANES, WINDOW, backlog)


def test_lanes_of_which_all_have_more_are_read_by_their_weights_though_kafka_gives_all_alike() -> None:
    fair, read = reading(), Counter[str]()
    while read.total() < 500_000:
        held = fair.ahead(())
        for lane in LANES:
            if lane not in held:
                fair.came(lane, 0, BATCH)
                read[lane] += BATCH
    for lane, weight in LANES.items():
        assert read[lane] / read.total() == pytest.approx(weight / SUM, abs=0.01)


def test_a_heavy_lane_never_waits_for_a_lighter_one() -> None:
    """Its full buffer is what holds it back: were it paused before, it would run dry until it is fetched again."""
    fair = reading()
    fair.came("p1", 0, 1)
    fair.came("p5", 0, 100_000)
    assert fair.ahead(()) == frozenset()


def test_a_lane_that_was_read_to_its_end_is_waited_for_by_nobody() -> None:
    fair = reading()
    fair.came("p5", 0, BATCH)
    fair.came("p1", 0, BATCH)
    assert fair.ahead(()) == {"p1"}
    fair.ended("p5", 0)
    assert fair.ahead(()) == frozenset()


def test_a_lane_has_more_until_the_last_of_its_partitions_was_read_to_its_end() -> None:
    fair = reading()
    fair.came("p5", 0, 1)
    fair.came("p5", 1, 1)
    fair.came("p1", 0, BATCH)
    fair.ended("p5", 0)
    assert fair.ahead(()) == {"p1"}
    fair.ended("p5", 1)
    assert fair.ahead(()) == frozenset()


def test_nobody_waits_for_a_lane_whose_tasks_come_one_by_one() -> None:
    """Each would pause all others until Kafka has told the end of its partition: they would run dry."""
    fair = reading(BACKLOG)
    fair.came("p1", 0, 100_000)
    for _ in range(10 * BACKLOG):
        fair.came("p5", 0, 1)
        assert fair.ahead(()) == frozenset()
        fair.ended("p5", 0)
    fair.came("p5", 0, BATCH)
    fair.came("p1", 0, BATCH)
    assert fair.ahead(()) == {"p1"}, "now there is a backlog"


def test_a_lane_that_has_no_room_is_waited_for_by_nobody() -> None:
    fair = reading()
    fair.came("p5", 0, 1)
    fair.came("p1", 0, BATCH)
    assert fair.ahead({"p5"}) == frozenset()
    fair.came("p1", 0, BATCH)
    assert fair.ahead({"p5"}) == frozenset()
    fair.came("p1", 0, 1)
    assert fair.ahead(()) == {"p1"}, "it has room again"


def test_what_a_lane_did_not_want_is_not_owed_to_it_beyond_one_window() -> None:
    fair = reading()
    fair.came("p1", 0, 100_000)  # p5 had nothing all the while.
    assert fair.ahead(()) == frozenset()
    fair.came("p5", 0, 1)
    assert fair.ahead(()) == frozenset(), "p5 begins at most one window behind the others"
    fair.came("p1", 0, BATCH)
    assert fair.ahead(()) == {"p1"}
    fair.came("p5", 0, 16 * BATCH + 16 * WINDOW // SUM)
    assert fair.ahead(()) == frozenset()


def test_a_lane_that_is_held_back_goes_on_only_when_half_of_its_lead_is_made_up_for() -> None:
    """A pause throws away what was fetched: it must not come and go with every batch."""
    fair = reading()
    lead = WINDOW // SUM
    fair.came("p5", 0, 16)
    fair.came("p1", 0, lead + 2)
    assert fair.ahead(()) == {"p1"}
    fair.came("p5", 0, 16)
    assert fair.ahead(()) == {"p1"}, "within the window again, but it would be out of it in a moment"
    fair.came("p5", 0, 16 * lead // 2)
    assert fair.ahead(()) == frozenset()


def test_a_lane_that_gives_nothing_while_polls_are_in_vain_holds_back_nobody_until_it_gives_again() -> None:
    fair = reading()
    fair.came("p5", 0, 1)
    fair.came("p1", 0, BATCH)
    for _ in range(EMPTY_POLLS):
        assert fair.ahead(()) == {"p1"}
        fair.nothing_came()
    assert fair.ahead(()) == {"p1"}, "it gave something not long ago"
    for _ in range(EMPTY_POLLS):
        fair.nothing_came()
    assert fair.ahead(()) == frozenset()
    fair.came("p1", 0, BATCH)
    fair.came("p5", 0, 1)
    assert fair.ahead(()) == {"p1"}


def test_what_comes_of_no_lane_has_no_share() -> None:
    fair = reading()
    fair.came("tiers", 0, 10**6)
    fair.ended("tiers", 0)
    assert fair.ahead(()) == frozenset()


EVENTS = st.one_of(
    st.tuples(st.just("came"), st.sampled_from(sorted(LANES)), st.integers(0, 2), st.integers(1, 2_000)),
    st.tuples(st.just("ended"), st.sampled_from(sorted(LANES)), st.integers(0, 2)),
    st.just(("nothing",)),
)


@given(st.lists(EVENTS, max_size=200), st.sets(st.sampled_from(sorted(LANES))))
def test_whatever_happens_nobody_waits_but_for_a_lane_that_is_read_itself(
    events: list[tuple[str, ...]], full: set[str]
) -> None:
    """So a worker never stands still: of those that have more and room, one at least is not held back."""
    fair, unread = reading(), {lane: set[int]() for lane in LANES}
    for event in events:
        match event:
            case ("came", lane, partition, records):
                fair.came(lane, int(partition), int(records))
                unread[lane].add(int(partition))
            case ("ended", lane, partition):
                fair.ended(lane, int(partition))
                unread[lane].discard(int(partition))
            case _:
                fair.nothing_came()
        ahead = fair.ahead(full)
        if ahead:
            assert {lane for lane, left in unread.items() if left} - full - ahead
