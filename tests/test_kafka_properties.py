"""The settings of an embedded cluster, as arithmetic: no broker is started here."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.kafka.broker_log import tail
from fairlane.kafka.properties import ClusterShape, Node, render, replication, server_properties

THREE = ClusterShape((Node(1, 9092, 7001), Node(2, 9093, 7002), Node(3, 9094, 7003)), Path("/data"))
ONE = ClusterShape((Node(1, 9092, 7001),), Path("/data"))


@pytest.mark.parametrize(
    ("brokers", "expected"),
    [
        (1, (1, 1)),
        (2, (2, 1)),  # one may die, and what is acknowledged may then be on one disk only
        (3, (3, 2)),  # one may die and nothing stops
        (5, (3, 2)),  # more brokers are not more copies
    ],
)
def test_replication_follows_the_number_of_brokers(brokers: int, expected: tuple[int, int]) -> None:
    assert replication(brokers) == expected


def test_three_brokers_keep_three_copies_of_everything_and_need_two() -> None:
    properties = server_properties(THREE, THREE.nodes[1])
    for name in (
        "default.replication.factor",
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "share.coordinator.state.topic.replication.factor",
    ):
        assert properties[name] == "3", name
    for name in (
        "min.insync.replicas",
        "transaction.state.log.min.isr",
        "share.coordinator.state.topic.min.isr",
    ):
        assert properties[name] == "2", name


def test_a_broker_listens_on_loopback_only() -> None:
    for node in THREE.nodes:
        properties = server_properties(THREE, node)
        for listener in f"{properties['listeners']},{properties['advertised.listeners']}".split(","):
            assert listener.split("://")[1].startswith("127.0.0.1:"), listener


def test_every_broker_knows_every_controller_and_has_its_own_id_ports_and_directory() -> None:
    each = [server_properties(THREE, node) for node in THREE.nodes]
    voters = "1@127.0.0.1:7001,2@127.0.0.1:7002,3@127.0.0.1:7003"
    assert {properties["controller.quorum.voters"] for properties in each} == {voters}
    for name in ("node.id", "listeners", "advertised.listeners", "log.dirs"):
        assert len({properties[name] for properties in each}) == 3, name


def test_sessions_are_short_and_topics_are_not_made_by_mistyping() -> None:
    """The values of DESIGN.md, on which the figures about killed workers stand."""
    properties = server_properties(ONE, ONE.nodes[0])
    expected = {
        "process.roles": "broker,controller",
        "group.initial.rebalance.delay.ms": "0",
        "group.consumer.min.session.timeout.ms": "5000",
        "group.consumer.session.timeout.ms": "6000",
        "group.consumer.min.heartbeat.interval.ms": "500",
        "group.consumer.heartbeat.interval.ms": "1000",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
    }
    assert {name: properties[name] for name in expected} == expected


def test_bootstrap_names_every_broker() -> None:
    assert THREE.bootstrap == "127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094"


def as_java_reads(text: str) -> dict[str, str]:
    r"""java.util.Properties.load, as far as `render` uses it: one pair a line, \\\\ and \\uXXXX."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        units, rest = b"", value
        while rest:
            if rest.startswith("\\u"):
                unit, rest = int(rest[2:6], 16), rest[6:]
            elif rest.startswith("\\\\"):
                unit, rest = ord("\\"), rest[2:]
            else:
                unit, rest = ord(rest[0]), rest[1:]
            units += unit.to_bytes(2, "big")
        found[name] = units.decode("utf-16-be")
    return found


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_path_comes_through_a_properties_file(value: str) -> None:
    text = render({"log.dirs": value, "node.id": "1"})
    assert text.isascii()
    assert as_java_reads(text) == {"log.dirs": value, "node.id": "1"}


def test_the_end_of_a_log_leaves_out_stack_frames_and_keeps_the_messages() -> None:
    log = "\n".join(
        [
            *[f"INFO line {number}" for number in range(40)],
            "ERROR Exiting Kafka due to fatal exception (Kafka$)",
            "java.lang.RuntimeException: no",
            "\tat kafka.Kafka$.main(Kafka.scala:99)",
            "Caused by: java.net.BindException: Address already in use",
            "\t... 3 more",
            "",
        ]
    )
    end = tail(log).splitlines()
    assert end[-3:] == [
        "ERROR Exiting Kafka due to fatal exception (Kafka$)",
        "java.lang.RuntimeException: no",
        "Caused by: java.net.BindException: Address already in use",
    ]
    assert len(end) == 15
