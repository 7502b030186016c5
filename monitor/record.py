"""A record as it was read: the frozen form of what the Kafka client hands out."""

from __future__ import annotations

import msgspec
from confluent_kafka import Message

from fairlane.topics import record_headers
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.headers import Headers


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record of a topic; its value is None where it is a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def place(self) -> str:
        """`topic/partition/offset`, as origins and letters are named."""
        return f"{self.topic}/{self.partition}/{self.offset}"


def record_of(message: Message) -> Record:
    """The record of a message that is no error."""
    return Record(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
        headers_of(message),
    )


def headers_of(message: Message) -> Headers:
    """The headers of a message as Kafka has them: in order, with repeats and nulls; none if unreadable."""
    try:
        return record_headers.headers_of(message) or []
    except MalformedRecord:
        return []
