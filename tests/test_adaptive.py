"""How many attempts a handler bears: the limiter's law against simulated servers, on virtual time and by seeds.

What do these tests do? They run a limit against a server that serves so many at once and lets the others wait, with
service times that vary as those of handlers do, and look at where the limit comes to rest and what that costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import thorough
from simulated_server import Server, always

from fairlane.consumer.adaptive import Adaptive, AdaptiveLimit
from fairlane.topics.errors import UsageError

SEEDS = (1, 2, 3)

Service = Callable[[Random, float], float]


def steady(mean_ms: float) -> Service:
    return lambda _random, _now_s: mean_ms


def varied(mean_ms: float, cv: float) -> Service:
    """Log-normal, as times of handlers often are; `cv` is the standard deviation as a part of the mean."""
    sigma = math.sqrt(math.log(1 + cv * cv))
    return lambda random, _now_s: random.lognormvariate(math.log(mean_ms) - sigma * sigma / 2, sigma)


def limit_of(least: int = 4, most: int = 200) -> AdaptiveLimit:
    return AdaptiveLimit(Adaptive(least, most), most)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("capacity", "service", "mean_ms", "most"),
    [
        # What it bears, what an attempt takes, and how far above the limit may rest: more where times vary more.
        (8, steady(10), 10, 1.6),
        (20, steady(100), 100, 1.6),
        (100, steady(100), 100, 1.3),
        (20, varied(100, 0.3), 100, 1.8),
        (20, varied(100, 1), 100, 3.5),
        (100, varied(100, 1), 100, 2.0),
    ],
)
def test_the_limit_comes_to_rest_a_little_above_what_the_server_bears(
    capacity: int, service: Service, mean_ms: float, most: float, seed: int
) -> None:
    run = Server(always(capacity), service).run(limit_of(), 50, seed)
    assert capacity * 0.9 <= run.mean(30, 50) <= capacity * most
    # Against all that it can serve, the beginning included.
    assert run.done[-1] >= 0.95 * capacity * 50_000 / mean_ms


@pytest.mark.parametrize("seed", SEEDS)
def test_it_does_not_oscillate(seed: int) -> None:
    run = Server(always(40), varied(100, 0.2)).run(limit_of(), 180, seed)
    # The looks at half as many, every half a minute, are a cohort long.
    settled = sorted(run.limits[30:])[5:]
    assert max(settled) - min(settled) <= 0.25 * 40
    # Each look is two changes, down and up again.
    assert sum(at_s >= 30 for at_s, _ in run.changes) <= 2 * 5 + 12


@pytest.mark.parametrize("seed", SEEDS)
def test_it_follows_a_server_that_bears_more_or_less(seed: int) -> None:
    def capacity(now_s: float) -> float:
        return 20 if now_s < 60 else 80 if now_s < 150 else 10

    run = Server(capacity, varied(100, 0.3)).run(limit_of(), 240, seed)
    assert 18 <= run.mean(30, 60) <= 36
    assert 72 <= run.mean(120, 150) <= 120
    assert run.limits[165] <= 25
    assert 9 <= run.mean(180, 240) <= 25


@pytest.mark.parametrize("seed", SEEDS)
def test_handlers_that_become_slower_by_themselves_are_not_held_down(seed: int) -> None:
    """Three times as slow at any concurrency is no queue: what is lost is found again within a minute."""
    base, slow = varied(60, 0.3), varied(180, 0.3)
    run = Server(always(50), lambda random, now_s: (base if now_s < 60 else slow)(random, now_s)).run(
        limit_of(), 180, seed
    )
    assert run.per_s(120, 180) >= 0.93 * 50 / 0.18


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cold_start_does_not_leave_it_too_high(seed: int) -> None:
    cold, warm = steady(1_000), varied(100, 0.2)
    run = Server(always(40), lambda random, now_s: (cold if now_s < 1 else warm)(random, now_s)).run(
        limit_of(), 120, seed
    )
    assert 38 <= run.mean(60, 120) <= 70


def test_a_server_without_bounds_is_given_the_maximum_within_seconds() -> None:
    run = Server(always(1e9), varied(50, 0.5)).run(limit_of(), 10, 1)
    assert set(run.limits[5:]) == {200}


def test_attempts_that_take_no_time_do_not_wait_for_each_other() -> None:
    limit = limit_of(1, 4)
    for number in range(100):
        for each in range(limit.limit):
            limit.began((number, each))
        for each in range(limit.limit):
            limit.ended((number, each), 0, False, number * 50)
    assert limit.limit == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_refusals_for_overload_cut_it_and_it_comes_back_slowly(seed: int) -> None:
    run = Server(always(20), varied(50, 0.3), refuses=True).run(limit_of(), 120, seed)
    assert 12 <= run.mean(30, 120) <= 24
    # A refusal costs an attempt of a task: what stays is a small part of all.
    assert run.refused <= 0.05 * run.done[-1]
    assert any("failed as if overloaded" in change.reason for _, change in run.changes)


def test_a_failure_now_and_then_is_no_overload() -> None:
    limit = limit_of(4, 8)
    for number in range(10_000):
        limit.began(number)
        limit.ended(number, None if number % 25 == 0 else 10, number % 25 == 0, number * 10)
    assert limit.limit == 4, "one at a time: nobody needs more"
    full = limit_of(1, 8)
    for number in range(2_000):
        full.began(number)
        full.ended(number, None if number % 25 == 0 else 10, number % 25 == 0, number * 100)
    assert full.limit > 1


def test_a_limit_that_nobody_reaches_does_not_grow_and_a_quiet_time_does_not_shrink_it() -> None:
    def demand(now_s: float) -> float:
        return 1e9 if now_s < 30 else 3

    run = Server(always(30), varied(50, 0.3), demand=demand).run(limit_of(), 120, 1)
    before = run.mean(20, 30)
    assert before >= 27
    assert run.limits[-1] >= 0.8 * before
    idle = Server(always(30), varied(50, 0.3), demand=always(3)).run(limit_of(), 60, 1)
    assert set(idle.limits) == {4}


def test_one_attempt_that_hangs_holds_up_nobody() -> None:
    hangs = iter([True])

    def service(random: Random, now_s: float) -> float:
        return 3_600_000 if now_s > 1 and next(hangs, False) else random.uniform(40, 60)

    run = Server(always(20), service).run(limit_of(), 60, 1)
    assert 18 <= run.mean(30, 60) <= 32


def test_what_began_under_an_earlier_limit_says_nothing_of_this_one() -> None:
    limit = limit_of(1, 64)
    now_ms = 0.0
    for number in range(16):
        now_ms += 100
        limit.began(number)
        if number < 15:
            limit.ended(number, 100, False, now_ms)
    # The sixteenth is still under way when the first cohort is judged by its next member.
    limit.began("last")
    limit.ended("last", 100, False, now_ms)
    assert limit.limit == 2
    for number in range(100, 200):
        limit.began(number)
        limit.ended(number, 100, False, now_ms)
    limit.ended(15, 1e9, False, now_ms + 1_000)
    assert limit.limit == 2


@thorough(40)
@given(
    least=st.integers(1, 12),
    room=st.integers(1, 200),
    most=st.integers(1, 150),
    capacity=st.integers(1, 120),
    mean_ms=st.sampled_from([3, 60, 900]),
    cv=st.sampled_from([0, 0.3, 2]),
    refuses=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_whatever_happens_the_limit_stays_within_its_bounds(
    least: int, room: int, most: int, capacity: int, mean_ms: float, cv: float, refuses: bool, seed: int
) -> None:
    limit = AdaptiveLimit(Adaptive(least, least + room), most)
    service = varied(mean_ms, cv) if cv else steady(mean_ms)
    run = Server(always(capacity), service, refuses=refuses).run(limit, 2, seed)
    lowest, highest = min(least, most), min(least + room, most)
    assert lowest <= min(run.limits) <= max(run.limits) <= highest
    for (_, before), (_, after) in zip(run.changes, run.changes[1:], strict=False):
        assert before.after == after.before
    assert all(change.reason and change.before != change.after for _, change in run.changes)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"min": 0}, r"Adaptive\(min=0\)"),
        ({"min": 2.5}, r"Adaptive\(min=2.5\)"),
        ({"max": True}, r"Adaptive\(max=True\)"),
        ({"min": 8, "max": 8}, "say concurrency=8"),
        ({"min": 9, "max": 8}, "nothing to adapt"),
        ({"overload": OSError}, "tuple of exception classes"),
        ({"overload": ("OSError",)}, "tuple of exception classes"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Adaptive(**arguments)  # type: ignore[arg-type]
