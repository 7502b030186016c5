"""Turns: a lane that is nearly as far ahead as it may be is read a few partitions at a time, and none is forgotten."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.consumer.turns import FETCH_BYTES, Limit, Turn, Turns

RECORD_BYTES = FETCH_BYTES // 100
"""A fetch brings a hundred."""
LIMIT = Limit(1_000, 250)


def lane(limit: Limit = LIMIT, *, takes_turns: bool = True) -> Turns:
    """A lane that is full, of records of which a fetch brings a hundred."""
    turns = Turns(limit, takes_turns=takes_turns)
    turns.handed(10_000, 10_000 * RECORD_BYTES)
    assert turns.look(limit.high) is takes_turns
    return turns


def given_turns(turns: Turns, waiting: int, partitions: list[Turn]) -> list[int]:
    if turns.look(waiting):
        turns.give(waiting, partitions)
    return [number for number, turn in enumerate(partitions) if turns.may_read(turn, waiting)]


def test_a_lane_that_was_never_full_is_read_in_full() -> None:
    turns = Turns(LIMIT, takes_turns=True)
    assert not turns.look(LIMIT.high - 1)
    assert turns.may_read(Turn(), LIMIT.high - 1)


def test_a_full_lane_is_not_read() -> None:
    assert given_turns(lane(), 1_000, [Turn(), Turn()]) == []


def test_as_many_partitions_have_a_turn_as_fetches_fit_into_its_room() -> None:
    turns, partitions = lane(), [Turn() for _ in range(12)]
    assert given_turns(turns, 901, partitions) == []
    assert given_turns(turns, 900, partitions) == [0]
    assert given_turns(turns, 700, partitions) == [0, 1, 2]
    assert given_turns(turns, 850, partitions) == [0], "room went, and nothing came of the others so far"
    assert given_turns(turns, 700, partitions) == [0, 1, 2], "they are the next again"


def test_a_turn_ends_after_one_fetch_and_the_partition_that_waits_longest_is_next() -> None:
    turns, partitions = lane(), [Turn() for _ in range(3)]
    order = []
    for _ in range(9):
        (now,) = given_turns(turns, 900, partitions)
        order.append(now)
        turns.came(partitions[now], 60)
        assert given_turns(turns, 900, partitions) == [now]
        turns.came(partitions[now], 40)
    assert order == [0, 1, 2] * 3


def test_a_partition_at_its_end_needs_no_turn_until_it_has_more() -> None:
    turns, partitions = lane(), [Turn(), Turn(), Turn()]
    assert given_turns(turns, 900, partitions) == [0]
    turns.reached_end(partitions[0])
    assert given_turns(turns, 900, partitions) == [0, 1], "what comes of it next is new, and should not wait"
    turns.came(partitions[0], 1)
    assert given_turns(turns, 900, partitions) == [1]


def test_a_lane_that_runs_low_is_read_in_full_until_it_is_full_again() -> None:
    turns, partitions = lane(), [Turn() for _ in range(12)]
    assert given_turns(turns, 251, partitions) == list(range(7))
    assert given_turns(turns, 250, partitions) == list(range(12))
    assert given_turns(turns, 999, partitions) == list(range(12))
    assert given_turns(turns, 1_000, partitions) == []


def test_a_lane_that_may_hold_less_than_a_fetch_gives_a_turn_when_it_is_down_to_half() -> None:
    turns, partitions = lane(Limit(16, 4)), [Turn(), Turn()]
    assert given_turns(turns, 9, partitions) == []
    assert given_turns(turns, 8, partitions) == [0]


def test_what_takes_no_turns_is_read_in_full_again_when_it_runs_low() -> None:
    turns, partitions = lane(takes_turns=False), [Turn(), Turn()]
    assert given_turns(turns, 251, partitions) == []
    assert given_turns(turns, 250, partitions) == [0, 1]


def test_larger_records_are_fewer_in_a_fetch() -> None:
    turns = lane()
    assert turns.fetch == pytest.approx(100, abs=1)
    turns.handed(1_000, 1_000 * 10 * FETCH_BYTES)
    assert turns.fetch == 1


@given(seed=st.integers(0, 2**32), partitions=st.integers(1, 24), per_step=st.integers(20, 150))
def test_whatever_handlers_take_the_lane_never_runs_dry_and_gives_all_partitions_as_many_turns(
    seed: int, partitions: int, per_step: int
) -> None:
    """A step is a fetch: what has a turn brings 30 to 100 records, as long as there are more."""
    rng = random.Random(seed)
    per_step = min(per_step, 25 * partitions)
    turns, states, ended = lane(), [Turn() for _ in range(partitions)], Counter[int]()
    waiting, most = LIMIT.high, 0
    for step in range(1_000):
        waiting -= min(waiting, per_step)
        assert waiting or not step, "it ran dry"
        reads = given_turns(turns, waiting, states)
        fresh = {number: rng.randint(30, 100) for number in reads}
        for number, records in fresh.items():
            before = states[number].number
            turns.came(states[number], records)
            ended[number] += states[number].number != before
        waiting += sum(fresh.values())
        most = max(most, waiting) if step > 20 else most
    assert most < LIMIT.high + partitions * 100
    assert max(ended.values()) <= 1.25 * min(ended[number] for number in range(partitions)) + 1
