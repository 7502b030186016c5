"""Lanes and tiers are found by what there is."""

from __future__ import annotations

from fairlane.monitor.discovery import lanes_of, tiers_of
from fairlane.topics.names import QueueNames

NAMES = QueueNames("shop")
TOPICS = (
    "shop.p1", "shop.p10", "shop.p5", "shop.dlq", "shop.retry-1m", "shop.retry-5s", "shop.retry-x", "shop.pX",
    "shop2.p3", "xshop.p3", "shop.p5.p3", "orders",
)  # fmt: skip


def test_own_lanes_are_found_the_most_urgent_first() -> None:
    assert [lane.topic for lane in lanes_of(NAMES, TOPICS)] == ["shop.p10", "shop.p5", "shop.p1"]


def test_a_topic_that_the_workers_read_is_a_foreign_lane() -> None:
    read = ("orders", "shop.p5", "shop.retry-5s", "deleted")
    assert [(lane.topic, lane.level) for lane in lanes_of(NAMES, TOPICS, read)][-2:] == [("shop.p1", 1), ("orders", 0)]


def test_tiers_are_found_the_shortest_first() -> None:
    assert [tier.name for tier in tiers_of(NAMES, TOPICS)] == ["5s", "1m"]


def test_a_dot_in_a_name_is_a_dot() -> None:
    assert lanes_of(QueueNames("a.b"), ("aXb.p3", "a.b.p3")) == lanes_of(QueueNames("a.b"), ("a.b.p3",))
