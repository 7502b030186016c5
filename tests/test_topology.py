"""The declaration of a queue's topics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.topics.errors import UsageError
from fairlane.topics.names import DEFAULT_TIERS, Lane, QueueNames, Tier
from fairlane.topics.topic_settings import HOP_HEADROOM_BYTES
from fairlane.topics.topology import TopicSpec, Topology, topics_of_queue

SHOP = QueueNames("shop")
ORDERS = Lane("orders", level=4, weight=3, default_type="order.placed", start="latest")


def spec(topology: Topology, name: str) -> TopicSpec:
    return next(spec for spec in topology.specs if spec.name == name)


def test_a_queue_has_its_lanes_tiers_and_eight_topics_more() -> None:
    assert [spec.name for spec in Topology.of(SHOP).specs] == [
        *("shop.p5", "shop.p4", "shop.p3", "shop.p2", "shop.p1"),
        *("shop.retry-1s", "shop.retry-5s", "shop.retry-1m", "shop.retry-10m", "shop.retry-2h", "shop.retry-1d"),
        *("shop.dlq", "shop.status", "shop.replies", "shop.control", "shop.audit"),
        *("shop.events", "shop.state", "shop.workers"),
    ]


@given(partitions=st.integers(1, 500), replication=st.integers(1, 7))
def test_lanes_and_tiers_all_have_the_same_number_of_partitions(partitions: int, replication: int) -> None:
    topology = Topology.of(SHOP, partitions=partitions, replication=replication)
    counts = {spec.partitions for spec in topology.specs if spec.role in ("lane", "tier")}
    assert counts == {partitions}
    assert {spec.replication for spec in topology.specs} == {replication}
    assert topology.total_replicas == topology.total_partitions * replication


@pytest.mark.parametrize("name", ["shop.p3", "shop.retry-1m", "shop.dlq"])
def test_what_is_not_settled_is_never_deleted_by_age_or_size(name: str) -> None:
    config = spec(Topology.of(SHOP), name).config
    assert config["cleanup.policy"] == "delete"
    assert config["retention.ms"] == "-1"
    assert config["retention.bytes"] == "-1"
    assert config["message.timestamp.type"] == "LogAppendTime"


@pytest.mark.parametrize(
    ("name", "policy", "partitions", "retention_ms"),
    [
        ("shop.status", "compact,delete", 12, "604800000"),
        ("shop.replies", "delete", 12, "3600000"),
        ("shop.control", "compact", 1, None),
        ("shop.audit", "delete", 1, "-1"),
        ("shop.events", "delete", 12, "-1"),
        ("shop.state", "compact", 12, None),
        ("shop.workers", "compact,delete", 1, "3600000"),
    ],
)
def test_the_other_topics_keep_what_their_role_needs(
    name: str, policy: str, partitions: int, retention_ms: str | None
) -> None:
    declared = spec(Topology.of(SHOP), name)
    assert (declared.config["cleanup.policy"], declared.partitions) == (policy, partitions)
    assert declared.config.get("retention.ms") == retention_ms


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2")])
def test_two_copies_must_have_a_record_where_there_are_three(replication: int, in_sync: str) -> None:
    for declared in Topology.of(SHOP, replication=replication).specs:
        assert declared.config["min.insync.replicas"] == in_sync


@given(st.integers(1_000, 100_000_000))
def test_what_fits_a_lane_fits_every_place_it_can_go_to(max_message_bytes: int) -> None:
    topology = Topology.of(SHOP, max_message_bytes=max_message_bytes)
    assert spec(topology, "shop.p5").config["max.message.bytes"] == str(max_message_bytes)
    for declared in topology.specs:
        if declared.role in ("tier", "dlq"):
            assert int(declared.config["max.message.bytes"]) == max_message_bytes + HOP_HEADROOM_BYTES


def test_every_topic_and_every_value_has_a_reason() -> None:
    for declared in Topology.of(SHOP, lanes=[*SHOP.default_lanes(), ORDERS]).specs:
        assert declared.why
        for setting in declared.settings:
            assert setting.why, f"{declared.name} {setting.name}"


def test_a_foreign_lane_is_declared_without_anything_to_make() -> None:
    topology = Topology.of(SHOP, lanes=[*SHOP.default_lanes(), ORDERS])
    orders = spec(topology, "orders")
    assert not orders.owned
    assert (orders.role, orders.partitions, orders.settings) == ("foreign lane", 0, ())
    assert "orders" not in {declared.name for declared in topology.owned}
    assert topology.total_partitions == Topology.of(SHOP).total_partitions


def test_lanes_come_first_by_level_and_tiers_by_delay() -> None:
    tiers = [Tier.parse("2h"), Tier.parse("30s")]
    names = [spec.name for spec in Topology.of(SHOP, lanes=[Lane("shop.p1", 1, 1), ORDERS], tiers=tiers).specs]
    assert names[:4] == ["orders", "shop.p1", "shop.retry-30s", "shop.retry-2h"]


@pytest.mark.parametrize(
    ("partitions", "replication", "brokers", "found", "resolved"),
    [
        (None, None, 1, None, (12, 1)),
        (None, None, 2, None, (12, 2)),
        (None, None, 3, None, (12, 3)),
        (None, None, 9, None, (12, 3)),
        # a queue that was made with 24 is not told that it should have 12
        (None, None, 3, 24, (24, 3)),
        (6, 1, 3, 24, (6, 1)),
        (None, None, 0, None, (12, 1)),
    ],
)
def test_numbers_that_are_left_open_are_those_of_the_cluster(
    partitions: int | None, replication: int | None, brokers: int, found: int | None, resolved: tuple[int, int]
) -> None:
    topology = Topology.of(SHOP, partitions=partitions, replication=replication)
    chosen = topology.resolve(brokers=brokers, found_partitions=found)
    assert (chosen.partitions, chosen.replication) == resolved


@pytest.mark.parametrize(
    "wrong",
    [
        {"partitions": 0},
        {"replication": 0},
        {"lanes": [ORDERS, Lane("orders", level=1, weight=1)]},
        {"lanes": [Lane("shop.dlq", level=1, weight=1)]},
        {"tiers": [*DEFAULT_TIERS, Tier.parse("5s")]},
    ],
)
def test_a_declaration_that_makes_no_sense_is_a_usage_error(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Topology.of(SHOP, **wrong)  # type: ignore[arg-type]


def test_topics_of_a_queue_are_told_by_their_names_whatever_lanes_and_tiers_it_has_now() -> None:
    topics = ["shop.p9", "shop.retry-30s", "shop.dlq", "shop.eu.p5", "shop.p", "shop.orders", "myshop.p5", "shopxp5"]
    assert topics_of_queue(SHOP, topics) == ("shop.dlq", "shop.p9", "shop.retry-30s")
    declared = [declared.name for declared in Topology.of(SHOP).specs]
    assert set(topics_of_queue(SHOP, [*topics, *declared])) >= set(declared)
