"""Whether a failed attempt is tried again, and when: tables with a reason per row."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import thorough

from fairlane.consumer.retry import RetryPolicy
from fairlane.topics.errors import UsageError


class Declined(ValueError):
    pass


@pytest.mark.parametrize(
    ("policy", "attempt", "error", "retried"),
    [
        (RetryPolicy(), 1, ValueError(), True),  # any exception by default
        (RetryPolicy(), 4, ValueError(), True),  # the fifth is to come
        (RetryPolicy(), 5, ValueError(), False),  # it was the last
        (RetryPolicy(), 9, ValueError(), False),  # a policy that was lowered meanwhile
        (RetryPolicy(max_attempts=1), 1, ValueError(), False),  # never again
        (RetryPolicy(), 1, KeyboardInterrupt(), False),  # no Exception, so not the task's fault
        (RetryPolicy(retry_on=(OSError,)), 1, ValueError(), False),  # not among those
        (RetryPolicy(retry_on=(OSError,)), 1, ConnectionResetError(), True),  # a subclass is
        (RetryPolicy(fatal=(ValueError,)), 1, ValueError(), False),  # hopeless
        (RetryPolicy(fatal=(ValueError,)), 1, Declined(), False),  # and so are subclasses
        (RetryPolicy(fatal=(Declined,)), 1, ValueError(), True),  # but not its parents
        (RetryPolicy(retry_on=(Declined,), fatal=(ValueError,)), 1, Declined(), False),  # fatal wins
        (RetryPolicy(retry_on=()), 1, ValueError(), False),  # nothing is worth it
    ],
)
def test_a_policy_says_whether_to_try_again(
    policy: RetryPolicy, attempt: int, error: BaseException, retried: bool
) -> None:
    assert policy.should_retry(attempt, error) is retried


@pytest.mark.parametrize(
    ("own", "attempt", "retried"),
    [
        (0, 2, True),  # says nothing: the policy's five
        (2, 1, True),
        (2, 2, False),  # lower than the policy
        (9, 8, True),  # higher than the policy
        (9, 9, False),
    ],
)
def test_a_tasks_own_number_of_attempts_beats_the_policys(own: int, attempt: int, retried: bool) -> None:
    assert RetryPolicy().should_retry(attempt, ValueError(), max_attempts=own) is retried


@pytest.mark.parametrize(
    ("policy", "attempt", "unit", "delay_s"),
    [
        (RetryPolicy(), 1, 0.5, 5),  # base
        (RetryPolicy(), 2, 0.5, 10),
        (RetryPolicy(), 4, 0.5, 40),
        (RetryPolicy(), 1, 0.0, 4.5),  # jitter: ten per cent less
        (RetryPolicy(), 1, 0.75, 5.25),  # half of ten per cent more
        (RetryPolicy(), 10, 0.5, 2560),
        (RetryPolicy(), 11, 0.5, 3600),  # capped
        (RetryPolicy(), 11, 0.0, 3240),  # still spread, lest all come back at once
        (RetryPolicy(), 10_000, 0.5, 3600),  # beyond floating point
        (RetryPolicy(factor=1), 7, 0.5, 5),  # constant
        (RetryPolicy(factor=3, base_s=0.1), 3, 0.5, 0.9),
        (RetryPolicy(base_s=0), 3, 0.9, 0),  # at once
        (RetryPolicy(base_s=10, max_s=10), 5, 0.5, 10),  # cap at the base
        (RetryPolicy(jitter=0), 2, 0.99, 10),  # exact
        (RetryPolicy(jitter=1), 1, 0.0, 0),  # the widest spread
    ],
)
def test_delays_grow_exponentially_up_to_the_cap(
    policy: RetryPolicy, attempt: int, unit: float, delay_s: float
) -> None:
    assert policy.next_delay(attempt, unit) == pytest.approx(delay_s)


def test_without_a_random_number_the_delay_is_the_exponential_value_itself() -> None:
    assert [RetryPolicy().next_delay(attempt) for attempt in (1, 2, 3, 4)] == [5, 10, 20, 40]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"base_s": -1},
        {"base_s": float("nan")},
        {"factor": 0.5},
        {"factor": float("inf")},
        {"max_s": 1},  # below base_s
        {"max_s": float("inf")},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"retry_on": ValueError},  # not a tuple
        {"retry_on": (ValueError, "OSError")},
        {"fatal": (int,)},
    ],
)
def test_a_policy_that_makes_no_sense_is_a_usage_error_that_names_the_field(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


policies = st.builds(
    RetryPolicy,
    base_s=st.floats(0, 100),
    factor=st.floats(1, 10),
    max_s=st.floats(100, 10_000),
    jitter=st.floats(0, 1),
)
units = st.floats(0, 1, exclude_max=True)


@thorough(400)
@given(policies, st.integers(1, 2_000), units)
def test_jitter_spreads_the_delay_by_its_part_to_either_side(policy: RetryPolicy, attempt: int, unit: float) -> None:
    middle = policy.next_delay(attempt)
    delay = policy.next_delay(attempt, unit)
    slack = 1e-9 * middle
    assert middle * (1 - policy.jitter) - slack <= delay <= middle * (1 + policy.jitter) + slack
    assert 0 <= delay <= policy.max_s * (1 + policy.jitter) + slack


@thorough(400)
@given(policies, st.integers(1, 2_000), units)
def test_a_later_attempt_never_waits_less(policy: RetryPolicy, attempt: int, unit: float) -> None:
    assert policy.next_delay(attempt, unit) <= policy.next_delay(attempt + 1, unit)
