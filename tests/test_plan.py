"""What differs between declaration and Kafka, how bad it is, and what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.topics.check import owners_lack, refuse
from fairlane.topics.difference import Difference, grouped
from fairlane.topics.errors import QueueBroken, QueueUnknown
from fairlane.topics.names import Lane, QueueNames
from fairlane.topics.plan import Found, FoundTopic, compare
from fairlane.topics.topology import Topology

SHOP = QueueNames("shop")
ORDERS = Lane("orders", level=4, weight=3, start="latest")
TOPOLOGY = Topology.of(SHOP)
WITH_ORDERS = Topology.of(SHOP, lanes=[*SHOP.default_lanes(), ORDERS])


def as_declared(topology: Topology = TOPOLOGY, *, brokers: int = 1) -> Found:
    """A Kafka that has the queue exactly as it is declared, with the rest of a topic's configuration around it."""
    wanted = topology.resolve(brokers=brokers)
    topics = {
        spec.name: FoundTopic(
            spec.name, spec.partitions or 4, spec.replication or 1, {"compression.type": "producer", **spec.config}
        )
        for spec in wanted.specs
    }
    return Found(topics, brokers)


def but(found: Found, name: str, config: Mapping[str, str] | None = None, **fields: object) -> Found:
    """The same with other settings or other fields of one topic."""
    topic = found.topics[name]
    changed = replace(topic, config={**(topic.config or {}), **(config or {})}, **fields)  # type: ignore[arg-type]
    return replace(found, topics={**found.topics, name: changed})


def without(found: Found, *names: str) -> Found:
    return replace(found, topics={name: topic for name, topic in found.topics.items() if name not in names})


def judged(found: Found, topology: Topology = TOPOLOGY) -> list[tuple[str, str, str]]:
    return [(each.severity, each.topic, each.what) for each in compare(topology, found)]


@given(partitions=st.integers(1, 64), brokers=st.integers(1, 5), asked=st.booleans())
def test_a_queue_that_was_made_as_declared_differs_in_nothing(partitions: int, brokers: int, asked: bool) -> None:
    made = Topology.of(SHOP, partitions=partitions)
    assert compare(made if asked else TOPOLOGY, as_declared(made, brokers=brokers)) == ()


@pytest.mark.parametrize(
    ("topic", "setting", "value", "severity"),
    [
        # a policy or a retention that deletes tasks before they are settled
        ("shop.p5", "cleanup.policy", "compact", "broken"),
        ("shop.p5", "cleanup.policy", "compact,delete", "broken"),
        ("shop.retry-2h", "cleanup.policy", "compact", "broken"),
        ("shop.dlq", "cleanup.policy", "delete,compact", "broken"),
        ("shop.p5", "retention.ms", "604800000", "broken"),
        ("shop.retry-1d", "retention.ms", "3600000", "broken"),
        ("shop.dlq", "retention.ms", "604800000", "broken"),
        ("shop.p1", "retention.bytes", "1073741824", "broken"),
        # what operators asked for is forgotten after a while
        ("shop.control", "cleanup.policy", "delete", "broken"),
        ("shop.control", "cleanup.policy", "compact,delete", "broken"),
        ("shop.state", "cleanup.policy", "delete", "broken"),
        ("shop.events", "cleanup.policy", "compact", "broken"),
        ("shop.events", "retention.ms", "604800000", "broken"),
        # nothing is lost, but the clock of a client decides
        ("shop.p5", "message.timestamp.type", "CreateTime", "warning"),
        # a policy that deletes nothing only costs disk
        ("shop.p5", "cleanup.policy", "", "warning"),
        ("shop.status", "cleanup.policy", "compact", "warning"),
        ("shop.status", "cleanup.policy", "delete", "warning"),
        ("shop.status", "cleanup.policy", "delete,compact", None),
        # longer than declared is fine, shorter is not
        ("shop.status", "retention.ms", "86400000", "warning"),
        ("shop.status", "retention.ms", "1209600000", None),
        ("shop.status", "retention.ms", "-1", None),
        ("shop.replies", "retention.ms", "60000", "warning"),
        ("shop.audit", "retention.ms", "604800000", "warning"),
        ("shop.audit", "retention.bytes", "1000", "warning"),
        # sooner is fine, later is not
        ("shop.p5", "segment.ms", "3600000", None),
        ("shop.p5", "segment.ms", "604800000", "warning"),
        ("shop.control", "min.cleanable.dirty.ratio", "0.10", None),
        ("shop.control", "min.cleanable.dirty.ratio", "0.5", "warning"),
        ("shop.p5", "max.message.bytes", "1000", "warning"),
        ("shop.p5", "unclean.leader.election.enable", "true", "warning"),
        # a word where a number should be
        ("shop.status", "retention.ms", "week", "warning"),
        # what is not declared is nobody's business
        ("shop.p5", "compression.type", "zstd", None),
    ],
)
def test_each_setting_is_judged_by_what_it_would_do(topic: str, setting: str, value: str, severity: str | None) -> None:
    expected = [] if severity is None else [(severity, topic, setting)]
    assert judged(but(as_declared(), topic, {setting: value})) == expected


def test_a_difference_says_what_was_declared_what_was_found_and_what_mends_it() -> None:
    (difference,) = compare(TOPOLOGY, but(as_declared(), "shop.p3", {"retention.ms": "1000"}))
    assert difference == Difference(
        "broken",
        "config",
        "shop.p3",
        "retention.ms",
        "-1",
        "1000",
        "tasks that wait longer would be deleted unseen",
        "fairlane topics mend --queue shop",
    )
    assert str(difference) == (
        "shop.p3: retention.ms is 1000, not -1 (tasks that wait longer would be deleted unseen); "
        "mend it: fairlane topics mend --queue shop"
    )


def test_commands_name_the_queue_as_the_caller_did() -> None:
    found = without(as_declared(), "shop.p3")
    (difference,) = compare(TOPOLOGY, found, queue_option="--queue-url kafka://h1:9092/shop")
    assert difference.command == "fairlane topics create --queue-url kafka://h1:9092/shop"


@pytest.mark.parametrize("name", [spec.name for spec in TOPOLOGY.specs])
def test_a_missing_topic_is_broken_but_for_what_a_queue_of_an_older_fairlane_lacks(name: str) -> None:
    (difference,) = compare(TOPOLOGY, without(as_declared(), name))
    # Without these nothing is lost: nobody can pause or cancel, and there are no schedules.
    severity = "warning" if name in ("shop.control", "shop.events", "shop.state") else "broken"
    assert (difference.severity, difference.kind, difference.topic) == (severity, "missing", name)
    assert difference.command == "fairlane topics create --queue shop"


def test_a_missing_topic_of_a_queue_with_other_numbers_is_made_with_them() -> None:
    found = without(as_declared(Topology.of(SHOP, partitions=24)), "shop.p3")
    (difference,) = compare(TOPOLOGY, found)
    assert difference.command == "fairlane topics create --queue shop --partitions 24"


def test_a_missing_foreign_lane_is_broken_and_somebody_elses_to_make() -> None:
    (difference,) = compare(WITH_ORDERS, without(as_declared(WITH_ORDERS), "orders"))
    assert (difference.severity, difference.topic) == ("broken", "orders")
    assert difference.command.startswith("kafka-topics.sh --bootstrap-server localhost:9092 --create")


@pytest.mark.parametrize(
    "config", [{"cleanup.policy": "compact"}, {"retention.ms": "1000"}, {"message.timestamp.type": "CreateTime"}]
)
def test_a_foreign_lane_is_nobodys_to_judge_beyond_its_existence(config: dict[str, str]) -> None:
    assert judged(but(as_declared(WITH_ORDERS), "orders", config, partitions=7, replication=1), WITH_ORDERS) == []


def test_a_topic_that_kafka_hides_is_broken_and_says_which_right_is_missing() -> None:
    found = replace(without(as_declared(), "shop.p3"), forbidden=frozenset({"shop.p3"}))
    (difference,) = compare(TOPOLOGY, found)
    assert (difference.severity, difference.kind) == ("broken", "forbidden")
    assert difference.command.endswith("--operation Describe --topic 'shop.p3'")
    hidden = frozenset(spec.name for spec in TOPOLOGY.owned)
    for each in compare(TOPOLOGY, Found({}, forbidden=hidden, principal="User:ann")):
        given = "--add --allow-principal User:ann --operation Describe --topic 'shop.' --resource-pattern-type prefixed"
        assert each.command.endswith(given)


def test_a_foreign_lane_that_kafka_hides_is_named_in_the_right_that_shows_it() -> None:
    found = replace(without(as_declared(WITH_ORDERS), "orders"), forbidden=frozenset({"orders"}))
    (difference,) = compare(WITH_ORDERS, found)
    assert difference.command.endswith("--operation Describe --topic 'orders'")


def test_a_configuration_that_may_not_be_read_is_one_warning_and_not_one_for_each() -> None:
    topics = {name: replace(topic, config=None) for name, topic in as_declared().topics.items()}
    (difference,) = compare(TOPOLOGY, Found(topics))
    assert (difference.severity, difference.kind) == ("warning", "unreadable")
    assert "19 topics" in difference.why
    assert "--operation DescribeConfigs --topic 'shop.' --resource-pattern-type prefixed" in difference.command


def test_uneven_lanes_and_tiers_warn_and_grow_to_the_largest() -> None:
    found = but(but(as_declared(), "shop.p5", partitions=24), "shop.retry-1s", partitions=6)
    differences = compare(TOPOLOGY, found)
    assert {difference.topic for difference in differences} == {
        spec.name for spec in TOPOLOGY.specs if spec.role in ("lane", "tier") and spec.name != "shop.p5"
    }
    for difference in differences:
        assert (difference.severity, difference.kind, difference.declared) == ("warning", "partitions", "24")
        assert difference.command == "fairlane topics grow --queue shop --partitions 24"


def test_more_partitions_than_declared_warn_since_they_cannot_be_taken_away() -> None:
    declared = Topology.of(SHOP, partitions=6)
    differences = compare(declared, but(as_declared(declared), "shop.p5", partitions=8))
    assert [(each.severity, each.topic, each.found) for each in differences] == [("warning", "shop.p5", "8")]
    assert differences[0].command == "fairlane topics grow --queue shop --partitions 8"


@pytest.mark.parametrize("name", ["shop.control", "shop.audit", "shop.workers"])
def test_more_than_one_partition_where_order_matters_warns(name: str) -> None:
    (difference,) = compare(TOPOLOGY, but(as_declared(), name, partitions=3))
    assert (difference.severity, difference.kind, difference.declared) == ("warning", "partitions", "1")
    assert f"--delete --topic '{name}' && fairlane topics create --queue shop" in difference.command


def test_a_changelog_has_as_many_partitions_as_the_events_whatever_the_lanes_have() -> None:
    grown = as_declared(Topology.of(SHOP, partitions=24))
    both = but(but(grown, "shop.events", partitions=12), "shop.state", partitions=12)
    assert judged(both) == []
    (difference,) = compare(TOPOLOGY, but(both, "shop.state", partitions=24))
    assert (difference.severity, difference.kind, difference.topic, difference.declared) == (
        "warning",
        "partitions",
        "shop.state",
        "12",
    )
    assert "--create --topic 'shop.state' --partitions 12" in difference.command
    assert owners_lack(SHOP, (difference,)) == "shop.state"
    assert owners_lack(SHOP, compare(TOPOLOGY, without(as_declared(), "shop.p3"))) == ""
    assert owners_lack(SHOP, compare(TOPOLOGY, without(as_declared(), "shop.events"))) == "shop.events"


@pytest.mark.parametrize("name", ["shop.dlq", "shop.status", "shop.replies"])
def test_partitions_of_topics_that_stay_as_they_were_made_are_not_counted(name: str) -> None:
    assert judged(but(as_declared(), name, partitions=3)) == []


def test_fewer_copies_than_declared_warn() -> None:
    found = but(as_declared(brokers=3), "shop.p5", {"min.insync.replicas": "1"}, replication=1)
    (difference,) = compare(TOPOLOGY, found)
    assert (difference.severity, difference.kind, difference.declared) == ("warning", "replication", "3")
    assert "fairlane topics reassignment --queue shop --replication 3" in difference.command


def test_more_copies_than_declared_are_fine() -> None:
    assert judged(but(as_declared(), "shop.p5", {"min.insync.replicas": "2"}, replication=3)) == []


def test_more_copies_in_sync_than_there_are_stop_every_write() -> None:
    (difference,) = compare(TOPOLOGY, but(as_declared(), "shop.p5", {"min.insync.replicas": "2"}))
    assert (difference.severity, difference.declared) == ("broken", "1")
    assert "Kafka refuses every record" in difference.why


@given(replication=st.integers(1, 5), in_sync=st.integers(1, 5), brokers=st.integers(1, 5))
def test_mending_in_sync_copies_never_asks_for_more_than_there_are(
    replication: int, in_sync: int, brokers: int
) -> None:
    found = but(as_declared(brokers=brokers), "shop.p5", {"min.insync.replicas": str(in_sync)}, replication=replication)
    for difference in compare(TOPOLOGY, found):
        if difference.what == "min.insync.replicas":
            assert int(difference.declared) <= replication


@pytest.mark.parametrize("name", ["shop.retry-1m", "shop.dlq"])
def test_a_lane_that_takes_more_than_tiers_and_dlq_is_broken(name: str) -> None:
    (difference,) = compare(TOPOLOGY, but(as_declared(), name, {"max.message.bytes": "1048588"}))
    assert (difference.severity, difference.topic, difference.declared) == ("broken", name, "1179660")


def test_raising_the_limit_of_a_lane_alone_is_broken_and_names_the_size_that_mends_it() -> None:
    differences = compare(TOPOLOGY, but(as_declared(), "shop.p3", {"max.message.bytes": "5000000"}))
    assert {each.topic for each in differences} == {
        spec.name for spec in TOPOLOGY.specs if spec.role in ("tier", "dlq")
    }
    assert {(each.severity, each.declared) for each in differences} == {("broken", "5131072")}


def test_a_foreign_lane_that_takes_more_only_warns() -> None:
    differences = compare(WITH_ORDERS, but(as_declared(WITH_ORDERS), "orders", {"max.message.bytes": "5000000"}))
    assert {(each.severity, each.declared) for each in differences} == {("warning", "5131072")}


def test_smaller_limits_everywhere_lose_nothing_and_warn() -> None:
    found = as_declared()
    for spec in TOPOLOGY.specs:
        if spec.role in ("lane", "tier", "dlq"):
            found = but(found, spec.name, {"max.message.bytes": "100000" if spec.role == "lane" else "300000"})
    assert {severity for severity, _, _ in judged(found)} == {"warning"}


def test_a_topic_of_the_queue_that_nobody_reads_any_more_warns() -> None:
    found = as_declared()
    left_over = FoundTopic("shop.retry-30s", 12, 1)
    (difference,) = compare(TOPOLOGY, replace(found, topics={**found.topics, left_over.name: left_over}))
    assert (difference.severity, difference.kind, difference.topic) == ("warning", "undeclared", "shop.retry-30s")


def test_partitions_without_a_leader_warn() -> None:
    (difference,) = compare(TOPOLOGY, but(as_declared(), "shop.p5", offline=(0, 7)))
    assert (difference.severity, difference.kind) == ("warning", "offline")
    assert difference.sentence == "a leader is missing for 2 of 12 partitions"


def test_differences_that_are_alike_are_one_line() -> None:
    groups = grouped(compare(TOPOLOGY, but(as_declared(brokers=3), "shop.p5", partitions=24)))
    assert [len(group.topics) for group in groups] == [10]
    assert str(groups[0]).startswith("shop.p4, shop.p3, shop.p2 and 7 more: the number of partitions is 12, not 24 (")
    assert groups[0].commands == ("fairlane topics grow --queue shop --partitions 24",)


@given(st.sets(st.sampled_from([spec.name for spec in TOPOLOGY.specs])), st.booleans())
def test_grouping_loses_no_difference(missing: set[str], uneven: bool) -> None:
    found = without(but(as_declared(), "shop.p5", partitions=24 if uneven else 12), *missing)
    differences = compare(TOPOLOGY, found)
    regrouped = [difference for group in grouped(differences) for difference in group.differences]
    assert sorted(map(str, regrouped)) == sorted(map(str, differences))


def test_what_is_broken_comes_first() -> None:
    found = but(without(as_declared(), "shop.workers"), "shop.p5", {"segment.ms": "604800000"})
    assert [severity for severity, _, _ in judged(found)] == ["broken", "warning"]


def test_a_broken_queue_refuses_a_worker_and_says_how_to_mend_it() -> None:
    differences = compare(TOPOLOGY, without(as_declared(), "shop.p3"))
    with pytest.raises(QueueBroken, match="fairlane topics create --queue shop") as caught:
        refuse(TOPOLOGY, differences, "h1:9092")
    assert caught.value.exit_code == 4


def test_a_queue_that_was_never_made_is_unknown_rather_than_broken() -> None:
    differences = compare(WITH_ORDERS, without(as_declared(WITH_ORDERS), *(spec.name for spec in TOPOLOGY.specs)))
    with pytest.raises(QueueUnknown, match="fairlane topics create --queue shop"):
        refuse(WITH_ORDERS, differences, "h1:9092")


def test_warnings_refuse_nobody() -> None:
    refuse(TOPOLOGY, compare(TOPOLOGY, but(as_declared(), "shop.p5", partitions=24)), "h1:9092")
