"""What brokers say of themselves, and what is judged of it: answers of real brokers as data."""

from __future__ import annotations

import broker_answers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.topics.api_versions import BrokerApis, answer_size, read_answer, request, what_is_missing
from fairlane.topics.check import missing_in_configuration


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (broker_answers.KAFKA_4_3_1, ""),
        (broker_answers.KAFKA_4_0_0_GROUP_VERSION_0, "the feature group.version is off"),
        (broker_answers.KAFKA_3_9_1, "older than Kafka 4.0"),
        (broker_answers.BEFORE_2_4, "older than Kafka 2.4"),
    ],
)
def test_a_cluster_without_what_fairlane_stands_on_is_told_from_one_that_has_it(answer: bytes, missing: str) -> None:
    said = what_is_missing(read_answer(answer))
    assert bool(said) == bool(missing)
    assert missing in said


@pytest.mark.parametrize(
    ("broker", "missing"),
    [
        (BrokerApis(0, {68: 1}, {"group.version": 1}), ""),
        (BrokerApis(0, {68: 2}, {"group.version": 2}), ""),
        (BrokerApis(0, {68: 1}, {}), "group.version"),
        (BrokerApis(0, {68: 0}, {"group.version": 1}), "preview"),
        (BrokerApis(0, {18: 3}, {}), "do not know the ConsumerGroupHeartbeat API"),
        (BrokerApis(58), "error 58"),
    ],
)
def test_what_is_missing_is_named(broker: BrokerApis, missing: str) -> None:
    assert missing in what_is_missing(broker)
    assert bool(what_is_missing(broker)) == bool(missing)


def test_the_features_of_the_cluster_are_read() -> None:
    broker = read_answer(broker_answers.KAFKA_4_3_1)
    assert broker.features["group.version"] == 1
    assert broker.features["transaction.version"] == 2
    assert broker.apis[68] == 1


def test_the_request_is_the_one_of_the_protocol_guide() -> None:
    assert request("fairlane", "1") == bytes.fromhex(
        "0000001f"  # length
        "0012 0003 00000350"  # ApiVersions, version 3, correlation id
        "0008 6661 6972 6c61 6e65 00"  # client id, no tags
        "09 6661 6972 6c61 6e65 02 31 00"  # software and its version, no tags
    )


@pytest.mark.parametrize("head", [b"HTTP", b"\x15\x03\x03\x00", b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_a_port_that_speaks_something_else_is_no_kafka(head: bytes) -> None:
    with pytest.raises(ValueError, match="first bytes"):
        answer_size(head)


def test_an_answer_to_another_request_is_refused() -> None:
    with pytest.raises(ValueError, match="another request"):
        read_answer(b"\0\0\0\1" + broker_answers.KAFKA_4_3_1[4:])


@given(st.integers(0, len(broker_answers.KAFKA_4_3_1) - 1))
def test_an_answer_that_is_cut_short_is_refused_wherever_it_is_cut(length: int) -> None:
    with pytest.raises(ValueError, match=r"cut short|another request"):
        read_answer(broker_answers.KAFKA_4_3_1[:length])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_answer(b"\0\0\x03\x50\0\0" + data)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"group.coordinator.rebalance.protocols": "classic,consumer,streams"}, ""),
        ({"group.coordinator.rebalance.protocols": "classic, consumer"}, ""),
        ({"group.coordinator.rebalance.protocols": "classic"}, "without consumer"),
        ({}, "older than Kafka 4.0"),
    ],
)
def test_the_configuration_of_a_broker_tells_it_too(config: dict[str, str], missing: str) -> None:
    assert missing in missing_in_configuration(config)
    assert bool(missing_in_configuration(config)) == bool(missing)
