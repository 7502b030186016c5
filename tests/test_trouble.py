"""What goes wrong again and again is said at once, then ever more rarely, and once when it is over."""

from __future__ import annotations

from itertools import pairwise

from fairlane.topics.trouble import TELL_FIRST_S, TELL_MAX_S, Trouble


def test_what_lasts_is_said_at_once_and_then_ever_more_rarely() -> None:
    trouble = Trouble()
    told = [second for second in range(4 * 3_600) if trouble.tell("dlq", second)]
    assert told[:4] == [0, 60, 180, 420]
    assert all(later - earlier <= TELL_MAX_S for earlier, later in pairwise(told))
    assert len(told) == 9


def test_another_cause_is_said_at_once_too() -> None:
    trouble = Trouble()
    assert trouble.tell("dlq", 0)
    assert trouble.tell("status", 1)
    assert not trouble.tell("dlq", 2)


def test_that_it_is_over_is_said_once_and_only_where_it_had_been_said_to_last() -> None:
    trouble = Trouble()
    assert trouble.over(0) is None
    trouble.tell("dlq", 1)
    trouble.tell("dlq", 2)
    assert trouble.over(5) == 4
    assert trouble.over(6) is None


def test_what_comes_and_goes_is_not_said_each_time() -> None:
    trouble = Trouble()
    told = 0
    for second in range(600):
        told += trouble.tell("dlq", second)
        trouble.over(second)
    assert told == 600 / TELL_FIRST_S


def test_what_was_not_heard_of_for_long_is_said_anew() -> None:
    """Who cannot say that it is over only stops to speak of it."""
    trouble = Trouble()
    first = [second for second in range(500) if trouble.tell("dlq", second)]
    again = [second for second in range(10_000, 10_500) if trouble.tell("dlq", second)]
    assert [second - 10_000 for second in again] == first
