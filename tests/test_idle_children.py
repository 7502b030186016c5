"""Idle child processes: which is used next, which go, and that a load that lasts does not have them made again."""

from __future__ import annotations

from itertools import count, pairwise
from random import Random

import pytest

from fairlane.consumer.idle_children import IdleChildren

IDLE_S = 60.0


class Load:
    """Tasks of one kind on children that are numbered, second by second."""

    def __init__(self) -> None:
        self.idle: IdleChildren[int] = IdleChildren(IDLE_S)
        self.now = 0.0
        self.started = 0
        self._busy: list[tuple[float, int]] = []

    def run(self, seconds: int, tasks_at: dict[int, int], lasts_s: float = 0.5) -> None:
        """Let time pass; `tasks_at` says how many tasks come at once in which second."""
        for second in range(seconds):
            for until, child in [each for each in self._busy if each[0] <= self.now]:
                self._busy.remove((until, child))
                self.idle.put("a", child, until)
            self.idle.take_due(self.now)
            for _ in range(tasks_at.get(second, 0)):
                taken = self.idle.take("a")
                self.started += taken is None
                self._busy.append((self.now + lasts_s, self.started if taken is None else taken))
            self.now += 1


def idle_of(*since: float, kind: str = "a") -> IdleChildren[float]:
    idle: IdleChildren[float] = IdleChildren(IDLE_S)
    for moment in since:
        idle.put(kind, moment, moment)
    return idle


def test_the_child_that_was_used_last_is_used_first() -> None:
    idle = idle_of(1, 2, 3)
    assert [idle.take("a"), idle.take("a")] == [3, 2]
    assert idle.take("b") is None
    assert idle.of("a") == [1]


def test_room_is_made_by_the_one_that_has_been_idle_longest_of_any_kind() -> None:
    idle = idle_of(5, 6)
    idle.put("b", 7, 7)
    idle.put("c", 8, 8)
    assert [idle.take_longest() for _ in range(5)] == [5, 6, 7, 8, None]


def test_what_nobody_needed_for_the_idle_time_goes_and_one_of_each_kind_stays() -> None:
    idle = idle_of(0, 1, 2)
    idle.put("b", -1.0, 2)
    assert idle.next_at() == IDLE_S
    assert idle.take_due(59.9) == []
    assert idle.take_due(60) == [0]
    assert idle.next_at() == 66, "a few at a time"
    assert idle.take_due(65) == []
    assert idle.take_due(66) == [1]
    assert idle.next_at() is None
    assert idle.take_due(10_000) == []
    assert (idle.of("a"), idle.of("b"), len(idle)) == ([2], [-1.0], 2)


def test_without_an_idle_time_all_are_kept() -> None:
    idle: IdleChildren[int] = IdleChildren(None)
    for number in range(5):
        idle.put("a", number, 0)
    assert idle.next_at() is None
    assert idle.take_due(1e9) == []


def test_a_load_that_needs_its_children_within_the_idle_time_never_starts_one_again() -> None:
    load = Load()
    load.run(3_600, {second: 8 if second % 50 == 0 else 1 for second in range(3_600)})
    assert load.started == 8


@pytest.mark.parametrize(("burst", "within"), [(2, 1.1), (11, 2.0), (200, 5.5)])
def test_a_burst_goes_a_few_at_a_time_until_one_is_left(burst: int, within: float) -> None:
    load = Load()
    load.run(1, {0: burst})
    left = []
    while len(load.idle) != 1:
        load.run(1, {})
        left.append(len(load.idle))
    assert max(before - after for before, after in pairwise(left)) <= max(1, burst // 10)
    assert IDLE_S <= load.now <= within * IDLE_S + 5


@pytest.mark.parametrize("period_s", [61, 70, 90, 110])
def test_bursts_that_come_back_soon_after_find_most_children_still_there(period_s: int) -> None:
    load = Load()
    load.run(20 * period_s, dict.fromkeys(range(0, 20 * period_s, period_s), 10))
    steps = (period_s - IDLE_S) // (IDLE_S / 10) + 1
    assert load.started <= 10 + 19 * steps


@pytest.mark.parametrize("seed", range(10))
def test_a_steady_load_of_chance_hardly_ever_starts_a_child_again(seed: int) -> None:
    """Five at once, and up to thirteen by chance: what is needed less than once in a minute goes and comes."""
    random, load = Random(seed), Load()
    load.run(3_600, {second: sum(random.random() < 0.1 for _ in range(50)) for second in range(3_600)})
    assert load.started <= 90, "18,000 tasks, and three starts in two minutes"


@pytest.mark.parametrize("seed", range(20))
def test_the_moment_it_tells_is_the_first_at_which_one_goes(seed: int) -> None:
    random, numbers = Random(seed), count()
    idle: IdleChildren[int] = IdleChildren(IDLE_S)
    now, gone = 0.0, 0
    for _ in range(500):
        now += random.expovariate(1 / 5)
        at = idle.next_at()
        if at is not None and at <= now:
            assert idle.take_due(at - 1e-6) == []
            ended = idle.take_due(at)
            assert ended
            gone += len(ended)
        else:
            assert idle.take_due(now) == []
        if random.random() < 0.6:
            idle.put(random.choice("abc"), next(numbers), now)
        else:
            idle.take(random.choice("abc"))
    assert gone
