"""Where a task goes: its lane when it is due, a tier while it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.topics.names import DEFAULT_TIERS, Lane, QueueNames
from fairlane.topics.routing import first_topic, lane_for, topic_for
from fairlane.topics.task import Task

NAMES = QueueNames("shop")
NOW_MS = 1_800_000_000_000


def a_task(delay_ms: int, enqueued_ms: int = NOW_MS) -> Task:
    return Task(id="1", type="t", payload=b"", lane="shop.p5", not_before_ms=NOW_MS + delay_ms, enqueued_ms=enqueued_ms)


@pytest.mark.parametrize(
    ("delay_ms", "topic"),
    [
        (-1, "shop.p5"),
        (0, "shop.p5"),
        (1, "shop.retry-1s"),  # less than the smallest goes to the smallest
        (4_999, "shop.retry-1s"),
        (5_000, "shop.retry-5s"),
        (59_999, "shop.retry-5s"),
        (90 * 86_400_000, "shop.retry-1d"),
    ],
)
def test_a_delay_goes_to_the_largest_tier_that_is_not_longer(delay_ms: int, topic: str) -> None:
    assert topic_for(a_task(delay_ms), NAMES, DEFAULT_TIERS, NOW_MS) == topic


def test_a_new_task_with_exactly_the_delay_of_a_tier_goes_there_though_a_moment_has_gone_by() -> None:
    assert first_topic(a_task(60_000), NAMES, DEFAULT_TIERS, NOW_MS + 7) == "shop.retry-1m"
    assert topic_for(a_task(60_000), NAMES, DEFAULT_TIERS, NOW_MS + 7) == "shop.retry-5s"


@pytest.mark.parametrize("enqueued_ms", [0, NOW_MS - 5_000, NOW_MS + 5_000])
def test_a_task_that_was_not_made_just_now_goes_by_the_time_that_it_is(enqueued_ms: int) -> None:
    assert first_topic(a_task(60_000, enqueued_ms), NAMES, DEFAULT_TIERS, NOW_MS + 7) == "shop.retry-5s"


@given(st.integers(0, 100_000_000), st.integers(0, 1_000))
def test_the_first_hop_is_never_longer_than_the_delay(delay_ms: int, passed_ms: int) -> None:
    topic = first_topic(a_task(delay_ms), NAMES, DEFAULT_TIERS, NOW_MS + passed_ms)
    tiers = {NAMES.tier(tier): tier.delay_ms for tier in DEFAULT_TIERS}
    assert topic == "shop.p5" if delay_ms == 0 else tiers[topic] <= max(delay_ms, 1_000)


def test_a_priority_without_a_lane_goes_to_the_nearest_less_urgent_one() -> None:
    lanes = [Lane("a", 5, 1), Lane("b", 2, 1)]
    assert [lane_for(level, lanes).topic for level in (9, 5, 4, 2, 1)] == ["a", "a", "b", "b", "b"]
