"""The soak: its judge tells a leak from noise, and the whole runs for some seconds. Half an hour is for `make soak`."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from soak.run import BOUNDS, Soak, as_json, as_markdown
from soak.slope import Points, judge

HALF_AN_HOUR = [5.0 * number for number in range(360)]
BOUND = BOUNDS["memory, MiB"]


def flat(seed: int, *, level: float = 80, noise: float = 2) -> Points:
    """A level with noise that has a memory, as that of an allocator has, and a spike now and then."""
    random, drift, points = Random(seed), 0.0, []
    for moment in HALF_AN_HOUR:
        drift = 0.8 * drift + random.gauss(0, noise)
        spike = 30 if random.random() < 0.02 else 0
        points.append((moment, level + drift + spike))
    return points


def test_no_noise_is_taken_for_a_leak() -> None:
    assert [seed for seed in range(100) if judge(flat(seed), BOUND).grows] == []


def test_a_leak_of_a_fifth_in_an_hour_is_found_under_the_same_noise() -> None:
    missed = []
    for seed in range(30):
        points = [(moment, value + 80 * 0.2 * moment / 3600) for moment, value in flat(seed, noise=1)]
        slope = judge(points, BOUND)
        if not slope.grows:
            missed.append(seed)
        assert slope.per_hour == pytest.approx(0.2, abs=0.1)
    assert missed == []


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_it_says_from_which_leak_on_it_finds_one(noise: float) -> None:
    def found(leak: float) -> int:
        """In how many of 20 runs a leak is found that is so many times what the run itself says."""
        count = 0
        for seed in range(20):
            points = flat(seed, noise=noise)
            per_s = leak * judge(points, BOUND).found_from / 3600
            count += judge([(moment, value + per_s * moment) for moment, value in points], BOUND).grows
        return count

    assert found(0.5) <= 2
    assert found(1.7) >= 18


def test_one_step_and_a_pool_that_fills_are_no_leak() -> None:
    stepped = [(moment, value + (10 if moment > 600 else 0)) for moment, value in flat(1, noise=0.5)]
    filled = [(moment, value + 20 * min(1, moment / 300)) for moment, value in flat(2, noise=0.5)]
    assert not judge(stepped, BOUND).grows
    assert not judge(filled, BOUND).grows


def test_a_thread_left_behind_every_five_minutes_is_found() -> None:
    points = [(moment, 35.0 + moment // 300) for moment in HALF_AN_HOUR]
    assert judge(points, BOUNDS["threads"]).grows
    assert not judge([(moment, 35.0 + moment % 3) for moment in HALF_AN_HOUR], BOUNDS["threads"]).grows


def test_few_samples_are_not_judged() -> None:
    slope = judge([(moment, moment) for moment in HALF_AN_HOUR[:20]], BOUND)
    assert not slope.judged
    assert not slope.grows
    assert not judge([], BOUND).judged


@pytest.mark.kafka
def test_every_kind_of_task_has_one_end_as_it_should_while_all_processes_are_sampled(
    kafka: str, tmp_path: Path
) -> None:
    result = Soak(3, rate=120, every_s=0.5, delays_s=(0.5, 1.2), say=print).run(kafka, tmp_path)
    assert result.failures == ()
    assert result.account.open == result.account.duplicates == result.account.wrong == 0
    assert result.account.ended == result.account.acknowledged + result.account.followed > 50
    assert {whose for whose, _ in result.series} >= {"supervisor", "worker-0", "worker-1", "producer", "queue"}
    assert min(value for _, value in result.series["worker-1", "memory, MiB"]) > 20
    assert as_json(result)["lost"] == 0
    assert "lost 0, duplicates 0" in as_markdown(result)
