"""Records whose headers the Kafka client cannot read are malformed, not the end of the reader."""

from __future__ import annotations

import time
import uuid

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from raw_producer import produce_with_header
from waiting import WAIT_S

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


def read_all(bootstrap: str, topic: str, count: int, timeout_s: float = WAIT_S) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        deadline = time.monotonic() + timeout_s
        found: list[Message] = []
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} on {topic} within {timeout_s} s"
            found += [message for message in consumer.consume(count, 0.2) if message.error() is None]
        return found
    finally:
        consumer.close()


@pytest.mark.kafka
def test_a_real_record_with_a_header_name_that_is_no_text_is_malformed(kafka: str) -> None:
    """Any client that is not Python's can write one: Kafka does not look at the names of headers."""
    topic = f"t-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)
    try:
        # Often: Python's interpreter calls a method of C in another way once it is warm.
        for _ in range(50):
            produce_with_header(kafka, topic, b"{}", b"\xff\xfe")
        messages = read_all(kafka, topic, 50)
    finally:
        admin.delete_topics([topic])[topic].result(60)
    for message in messages:
        with pytest.raises(MalformedRecord):
            headers_of(message)
        assert message.value() == b"{}"
