"""Records whose headers the Kafka client cannot read are malformed, not the end of the reader."""

from __future__ import annotations

import time
import uuid

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from raw_producer import produce_with_header

from fairlane.topics.errors import MalformedRecord
from fairlane.topics.record_headers import headers_of


class Answering:
    def __init__(self, headers: object) -> None:
        self._headers = headers

    def headers(self) -> object:
        if isinstance(self._headers, Exception):
            raise self._headers
        return self._headers


def test_headers_are_as_the_client_has_them() -> None:
    assert headers_of(Answering([("a", b"1"), ("a", None)])) == [("a", b"1"), ("a", None)]
    assert headers_of(Answering(None)) is None


def test_headers_that_the_client_cannot_read_make_the_record_malformed() -> None:
    with pytest.raises(MalformedRecord, match="the name of a header is no UTF-8"):
        headers_of(Answering(SystemError("returned a result with an exception set")))


def read_one(bootstrap: str, topic: str, timeout_s: float = 30) -> Message:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                return message
    finally:
        consumer.close()
    raise AssertionError(f"nothing on {topic} within {timeout_s} s")


@pytest.mark.kafka
def test_a_real_record_with_a_header_name_that_is_no_text_is_malformed(kafka: str) -> None:
    """Any client that is not Python's can write one: Kafka does not look at the names of headers."""
    topic = f"t-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    try:
        produce_with_header(kafka, topic, b"{}", b"\xff\xfe")
        message = read_one(kafka, topic)
    finally:
        admin.delete_topics([topic])[topic].result(20)
    with pytest.raises(MalformedRecord):
        headers_of(message)
    assert message.value() == b"{}"
