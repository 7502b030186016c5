"""How many processes a pool has: the policy by cases, and against simulated loads on virtual time.

What do the simulations do? A load of tasks comes to processes that each end so many a second, need a while to start,
and share partitions; once a second the policy looks at them, and its decisions are followed as a supervisor does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import thorough

from fairlane.consumer.scaling import Decision, Scaling, ScalingPolicy, Vitals

POLICY = ScalingPolicy(least=1, most=8, age_s=10, idle_s=60, busy_s=3, settle_s=5)
BUSY = Vitals(busy=0.95, waiting=50, oldest_s=2, partitions=12)
LATE = Vitals(busy=0.95, waiting=50, oldest_s=30, partitions=12)
IDLE = Vitals(busy=0.05, waiting=0, oldest_s=0, partitions=12)


def looks(scaling: Scaling, seconds: int, *vitals: Vitals, since_s: float = 0) -> list[tuple[float, Decision]]:
    """The decisions of so many looks, a second apart, at processes that stay as they are."""
    found = []
    for number in range(seconds):
        decision = scaling.look(vitals, since_s + number)
        if decision is not None:
            found.append((since_s + number, decision))
    return found


def sized(processes: int, policy: ScalingPolicy = POLICY) -> Scaling:
    scaling = Scaling(policy)
    scaling.processes = processes
    return scaling


@pytest.mark.parametrize(
    ("processes", "vitals", "decision"),
    [
        # Busy, with tasks that wait: one more.
        (2, BUSY, Decision(2, 3, "95% busy, and the oldest task has waited 2 s")),
        # They wait for too long: twice as many, and half busy is busy enough.
        (2, LATE, Decision(2, 4, "95% busy, and the oldest task has waited 30 s")),
        (2, LATE._replace(busy=0.6), Decision(2, 4, "60% busy, and the oldest task has waited 30 s")),
        # Never more than are allowed, nor than the partitions feed.
        (5, LATE, Decision(5, 8, "95% busy, and the oldest task has waited 30 s")),
        (3, LATE._replace(partitions=2), Decision(3, 6, "95% busy, and the oldest task has waited 30 s")),
        (4, LATE._replace(partitions=1), Decision(4, 4, "95% busy, and the oldest task has waited 30 s; "
         "their partitions feed no more")),
        (8, BUSY, Decision(8, 8, "95% busy, and the oldest task has waited 2 s; no more are allowed")),
        # Busy with nothing that waits is just right; old tasks at idle processes are held up by something else.
        (2, BUSY._replace(waiting=0, oldest_s=0), None),
        (2, LATE._replace(busy=0.2), None),
        # In between nothing happens: two at 40 % would be one at 80 %.
        (2, IDLE._replace(busy=0.4), None),
        (2, BUSY._replace(busy=0.7), None),
    ],
)  # fmt: skip
def test_what_follows_within_ten_seconds(processes: int, vitals: Vitals, decision: Decision | None) -> None:
    found = looks(sized(processes), 10, *[vitals] * processes)
    assert [each for _, each in found[:1]] == ([decision] if decision else [])


@pytest.mark.parametrize(
    ("processes", "vitals", "reason"),
    [
        (3, IDLE, "5% busy"),
        (2, IDLE._replace(busy=0.25), "25% busy"),
        # One reads nothing, however busy the others are.
        (3, BUSY._replace(partitions=0), "their partitions feed 0"),
    ],
)
def test_it_shrinks_by_one_after_a_minute(processes: int, vitals: Vitals, reason: str) -> None:
    found = looks(sized(processes), 66, *[vitals] * processes)
    shrinks = [(at_s, each) for at_s, each in found if each.after < each.before]
    assert shrinks == [(65, Decision(processes, processes - 1, reason))]


def test_it_never_has_fewer_than_the_least() -> None:
    assert looks(sized(1), 1_000, IDLE) == []
    assert looks(sized(2, ScalingPolicy(2, 8)), 1_000, IDLE, IDLE) == []


def test_one_busy_second_in_a_minute_is_no_quiet_minute() -> None:
    scaling = sized(2)
    assert looks(scaling, 50, IDLE, IDLE) == []
    assert looks(scaling, 1, BUSY, BUSY, since_s=50) == []
    assert looks(scaling, 60, IDLE, IDLE, since_s=51) == []
    assert looks(scaling, 2, IDLE, IDLE, since_s=111) == [(111, Decision(2, 1, "5% busy"))]


def test_nothing_follows_before_all_processes_work_and_have_shared_the_partitions() -> None:
    scaling = sized(1)
    assert looks(scaling, 9, BUSY) == [(8, Decision(1, 2, "95% busy, and the oldest task has waited 2 s"))]
    assert looks(scaling, 100, BUSY, since_s=9) == []
    assert [at_s for at_s, _ in looks(scaling, 9, BUSY, BUSY, since_s=109)] == [117]


def test_why_it_does_not_grow_is_said_once() -> None:
    full = sized(8)
    assert len(looks(full, 600, *[BUSY] * 8)) == 1


class Pool:
    """A pool under load, in steps of a second; never more of its processes work than partitions feed."""

    STARTS_S = 4
    PER_S = 20.0

    def __init__(self, policy: ScalingPolicy, partitions: int, seed: int) -> None:
        self.scaling = Scaling(policy)
        self.partitions = partitions
        self.random = Random(seed)
        self.works_from_s = [float(self.STARTS_S)] * policy.least
        self.backlog: list[tuple[float, float]] = []
        """When tasks came, and how many."""
        self.sizes: list[int] = []
        self.oldest_s: list[float] = []
        self.decisions: list[tuple[int, Decision]] = []

    def run(self, load: Callable[[float], float], seconds: int, since_s: int = 0) -> None:
        for now_s in range(since_s, since_s + seconds):
            came = load(now_s) * self.random.uniform(0.9, 1.1)
            self.backlog.append((now_s, came))
            working = [at_s for at_s in self.works_from_s if at_s <= now_s]
            fed = min(len(working), self.partitions)
            can, done = fed * self.PER_S, 0.0
            while self.backlog and done < can:
                at_s, count = self.backlog.pop(0)
                took = min(count, can - done)
                done += took
                if took < count:
                    self.backlog.insert(0, (at_s, count - took))
            oldest_s = now_s - self.backlog[0][0] if self.backlog else 0.0
            waiting = math.ceil(sum(count for _, count in self.backlog))
            busy = done / can if can else 0.0
            share, rest = divmod(self.partitions, max(1, len(working)))
            vitals = [Vitals(busy, waiting, oldest_s, share + (number < rest)) for number in range(len(working))]
            decision = self.scaling.look(vitals, float(now_s))
            if decision is not None:
                self.decisions.append((now_s, decision))
                more = decision.after - decision.before
                self.works_from_s += [now_s + self.STARTS_S] * more
                del self.works_from_s[decision.after :]
            self.sizes.append(self.scaling.processes)
            self.oldest_s.append(oldest_s)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("load", [10, 50, 105, 130])
def test_a_steady_load_gets_as_many_as_it_needs_and_no_size_is_taken_back(load: float, seed: int) -> None:
    pool = Pool(POLICY, 12, seed)
    pool.run(lambda _: load, 900)
    needed = load / Pool.PER_S
    assert needed < pool.sizes[-1] <= needed / 0.6 + 1
    changes = [decision.after - decision.before for _, decision in pool.decisions]
    grown = [change for change in changes if change > 0]
    # What the backlog of the start asked for beyond what the load needs is given back; after that nothing moves.
    assert changes[: len(grown)] == grown
    assert len(set(pool.sizes[500:])) == 1
    assert pool.oldest_s[-1] <= 2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_grows_in_seconds_and_shrinks_in_minutes(seed: int) -> None:
    pool = Pool(POLICY, 12, seed)
    pool.run(lambda now_s: 110 if 60 <= now_s < 360 else 2, 1_200)
    assert pool.sizes[59] == 1
    assert max(pool.sizes[60:110]) >= 6
    assert max(pool.oldest_s[160:360]) <= 2
    assert pool.sizes[420] >= 5, "a minute is no reason yet to end more than one"
    assert pool.sizes[-1] == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_never_has_more_than_the_partitions_feed(seed: int) -> None:
    pool = Pool(POLICY, 3, seed)
    pool.run(lambda _: 500, 300)
    assert max(pool.sizes) == 3
    assert pool.decisions[-1][1].reason.endswith("their partitions feed no more")


def test_workers_of_other_machines_that_take_the_partitions_make_it_smaller() -> None:
    pool = Pool(POLICY, 12, 1)
    pool.run(lambda _: 500, 60)
    assert pool.sizes[-1] == 8
    pool.partitions = 3
    pool.run(lambda _: 500, 500, since_s=60)
    assert pool.sizes[-1] == 3


@thorough(100)
@given(
    least=st.integers(1, 4),
    room=st.integers(1, 8),
    partitions=st.integers(1, 12),
    steps=st.lists(st.tuples(st.integers(1, 120), st.floats(0, 400)), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
)
def test_whatever_the_load_the_size_stays_within_its_bounds_and_does_not_flap(
    least: int, room: int, partitions: int, steps: list[tuple[int, float]], seed: int
) -> None:
    policy = ScalingPolicy(least, least + room)
    pool = Pool(policy, partitions, seed)
    now_s = 0
    for seconds, load in steps:
        pool.run(lambda _, load=load: load, seconds, since_s=now_s)  # type: ignore[misc]
        now_s += seconds
    assert least <= min(pool.sizes) <= max(pool.sizes) <= max(least, min(policy.most, partitions))
    moves = [(at_s, each) for at_s, each in pool.decisions if each.after != each.before]
    for (before_s, one), (after_s, other) in pairwise(moves):
        assert one.after == other.before
        assert after_s - before_s >= policy.settle_s
        if one.after > one.before and other.after < other.before:
            assert after_s - before_s >= policy.idle_s
