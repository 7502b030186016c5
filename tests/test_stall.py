"""A blocked event loop: told once when it begins and once when it is over; a process that stood still blames nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.consumer.stall import Blocked, Over, Stall, StoodStill


def test_an_incident_is_told_when_it_begins_and_when_it_is_over_and_not_between() -> None:
    stall = Stall(1.0)
    stall.asked(0.0)
    assert stall.asked_s == 0.0
    said = [stall.look(None, quarter / 4) for quarter in range(1, 13)]
    assert said == [None] * 3 + [Blocked(1.0)] + [None] * 8
    assert stall.look(3.1, 3.25) == Over(3.1)
    stall.asked(3.25)
    assert stall.look(3.3, 3.5) is None


def test_a_loop_that_answers_late_but_in_time_is_not_blocked() -> None:
    stall = Stall(1.0)
    stall.asked(0.0)
    assert [stall.look(None, 0.25), stall.look(None, 0.5), stall.look(0.7, 0.75)] == [None, None, None]


def test_each_incident_is_told_anew() -> None:
    stall = Stall(0.4)
    for start in (0.0, 0.7):
        stall.asked(start)
        assert stall.look(None, start + 0.1) is None
        assert isinstance(stall.look(None, start + 0.5), Blocked)
        assert isinstance(stall.look(start + 0.55, start + 0.6), Over)


def test_a_process_that_stood_still_says_so_and_its_loop_gets_its_time_again() -> None:
    stall = Stall(1.0)
    stall.asked(0.0)
    assert stall.look(None, 0.25) is None
    assert stall.look(None, 60.0) == StoodStill(59.75)
    assert stall.look(None, 60.25) is None
    assert stall.look(None, 61.0) == Blocked(1.0), "it was blocked as well"


def test_a_long_incident_is_over_with_all_its_time_though_the_process_stood_still_in_it() -> None:
    stall = Stall(1.0)
    stall.asked(0.0)
    stall.look(None, 0.5)
    assert stall.look(None, 1.0) == Blocked(1.0)
    assert stall.look(None, 31.0) is None
    assert stall.look(31.5, 31.6) == Over(31.5)


@pytest.mark.parametrize(("limit_s", "period_s"), [(1.0, 0.25), (60.0, 0.25), (0.2, 0.05)])
def test_it_is_looked_at_often_enough_to_be_told_in_time(limit_s: float, period_s: float) -> None:
    assert Stall(limit_s).period_s == pytest.approx(period_s)


@given(st.lists(st.tuples(st.floats(0.01, 5.0), st.booleans()), max_size=60))
def test_no_order_of_looks_tells_an_end_without_a_beginning(looks: list[tuple[float, bool]]) -> None:
    stall, now_s, is_open = Stall(1.0), 0.0, False
    stall.asked(now_s)
    for step_s, answers in looks:
        now_s += step_s
        answered = now_s - step_s / 2 if answers else None
        event = stall.look(answered, now_s)
        if isinstance(event, Blocked):
            assert not is_open
            is_open = True
        elif isinstance(event, Over):
            assert is_open
            is_open = False
        if stall.asked_s is None:
            stall.asked(now_s)
