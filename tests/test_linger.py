"""How long outcomes gather before a commit: not at all when idle, longer where commits are slow."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import thorough

from fairlane.consumer.linger import Linger

commits = st.lists(st.floats(0, 60, allow_nan=False), max_size=50)


def lingering(*commits_s: float) -> Linger:
    linger = Linger()
    for commit_s in commits_s:
        linger.observe(commit_s)
    return linger


@pytest.mark.parametrize(
    ("commit_s", "wait_s"),
    [
        (0.0, 0.0),  # nothing to gain
        (0.011, 0.044),  # the commit that was measured
        (0.05, 0.2),  # the full linger from here on
        (3.0, 0.2),  # a broker in trouble
    ],
)
def test_the_linger_is_four_times_the_commit_up_to_its_limit(commit_s: float, wait_s: float) -> None:
    assert lingering(commit_s, commit_s).wait_s(idle=False) == pytest.approx(wait_s)


def test_before_the_first_commit_there_is_no_wait() -> None:
    assert lingering().wait_s(idle=False) == 0


@thorough(500)
@given(commits)
def test_an_idle_worker_never_waits(commits_s: list[float]) -> None:
    assert lingering(*commits_s).wait_s(idle=True) == 0


@thorough(500)
@given(commits, st.floats(0, 1))
def test_no_wait_is_longer_than_the_limit_or_shorter_than_nothing(commits_s: list[float], max_s: float) -> None:
    linger = Linger(max_s)
    for commit_s in commits_s:
        linger.observe(commit_s)
        assert 0 <= linger.wait_s(idle=False) <= max_s


@thorough(500)
@given(commits, st.floats(0, 60), st.floats(0, 60))
def test_a_slower_commit_never_makes_a_shorter_wait(before: list[float], one_s: float, other_s: float) -> None:
    faster, slower = sorted((one_s, other_s))
    assert lingering(*before, faster).wait_s(idle=False) <= lingering(*before, slower).wait_s(idle=False)


@thorough(500)
@given(st.floats(0.001, 0.04), st.floats(0.001, 0.04))
def test_it_moves_steadily_to_what_commits_take_now(before_s: float, now_s: float) -> None:
    """No thresholds: whichever way speed changes, the wait follows without going back, and is there in 30 commits."""
    linger = lingering(before_s)
    waits = [linger.wait_s(idle=False)]
    for _ in range(30):
        linger.observe(now_s)
        waits.append(linger.wait_s(idle=False))
    towards = now_s >= before_s
    assert all(
        (earlier <= later + 1e-12) if towards else (earlier >= later - 1e-12) for earlier, later in pairwise(waits)
    )
    assert waits[-1] == pytest.approx(4 * now_s, abs=0.001)


def test_a_lone_outlier_moves_it_by_a_fifth() -> None:
    linger = lingering(*[0.01] * 50, 0.06)
    assert linger.wait_s(idle=False) == pytest.approx(4 * 0.02)
