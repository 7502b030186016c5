"""What a broker says of itself before anybody logs in: the ApiVersions request, its answer, and what we judge of it.

Invariant: bytes in, values out; no socket. The request is version 3, which every broker since 2.4 answers in full and
older ones with an error that is understood here; it needs no rights, and Kafka takes it before authentication.
Source: the Kafka protocol guide (ApiVersions, key 18), KIP-35, KIP-511 and KIP-584; KIP-848 for what is looked for.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_API_VERSIONS: Final = 18
_REQUEST_VERSION: Final = 3
_UNSUPPORTED_VERSION: Final = 35
_CONSUMER_GROUP_HEARTBEAT: Final = 68
# Version 1 (member ids made by the client) came with Kafka 4.0; version 0 is the preview of 3.7 to 3.9.
_HEARTBEAT_VERSION: Final = 1
_FINALIZED_FEATURES: Final = 2
_MAX_ANSWER_BYTES: Final = 1_000_000
CORRELATION_ID: Final = 848


@dataclass(frozen=True)
class BrokerApis:
    """What a broker can do.

    Attributes:
        error: Kafka's error code, 0 for none.
        apis: highest version of each API by its key.
        features: level of each finalized feature of the cluster by its name.
    """

    error: int = 0
    apis: Mapping[int, int] = field(default_factory=dict)
    features: Mapping[str, int] = field(default_factory=dict)


def what_is_missing(broker: BrokerApis) -> str:
    """What the cluster lacks to carry a queue, as the end of a sentence; "" if nothing."""
    if broker.error == _UNSUPPORTED_VERSION:
        return "its brokers are older than Kafka 2.4"
    if broker.error:
        return f"its brokers answer an ApiVersions request with error {broker.error}"
    heartbeat = broker.apis.get(_CONSUMER_GROUP_HEARTBEAT)
    if heartbeat is None:
        return "its brokers do not know the ConsumerGroupHeartbeat API, so they are older than Kafka 4.0"
    if heartbeat < _HEARTBEAT_VERSION:
        return "its brokers know only the preview of the ConsumerGroupHeartbeat API, so they are older than Kafka 4.0"
    if broker.features.get("group.version", 0) < 1:
        return (
            "its brokers are new enough, but the feature group.version is off "
            "(`kafka-features.sh --bootstrap-server HOST:PORT upgrade --feature group.version=1` turns it on)"
        )
    return ""


def request(client: str, version: str) -> bytes:
    """The bytes of an ApiVersions request, length first; `client` and `version` show up in the broker's metrics."""
    name = client.encode()
    header = struct.pack(">hhih", _API_VERSIONS, _REQUEST_VERSION, CORRELATION_ID, len(name)) + name + b"\0"
    body = _compact(name) + _compact(version.encode()) + b"\0"
    return struct.pack(">i", len(header) + len(body)) + header + body


def _compact(text: bytes) -> bytes:
    assert len(text) < 127
    return bytes([len(text) + 1]) + text


def answer_size(head: bytes) -> int:
    """How many bytes follow the first four of an answer.

    Raises:
        ValueError: they are no length of such an answer (a TLS or an HTTP port, say).
    """
    size = int(struct.unpack(">i", head)[0])
    if not 6 <= size <= _MAX_ANSWER_BYTES:
        raise ValueError(f"the first bytes of the answer are {head!r}")
    return size


def read_answer(answer: bytes) -> BrokerApis:
    """The answer to `request`, without its length.

    Raises:
        ValueError: the bytes are something else.
    """
    reader = _Reader(answer)
    try:
        if reader.int32() != CORRELATION_ID:
            raise ValueError("the answer belongs to another request")
        error = reader.int16()
        if error:
            # A broker that does not know version 3 answers in version 0: only the error is of interest.
            return BrokerApis(error)
        apis = {}
        for _ in range(reader.array()):
            key, _lowest, highest = reader.int16(), reader.int16(), reader.int16()
            reader.skip_tags()
            apis[key] = highest
        reader.int32()  # throttle time
        return BrokerApis(0, apis, _features(reader.tags()))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"the answer is cut short or garbled: {error}") from error


def _features(tags: Mapping[int, bytes]) -> dict[str, int]:
    features = {}
    if _FINALIZED_FEATURES in tags:
        reader = _Reader(tags[_FINALIZED_FEATURES])
        for _ in range(reader.array()):
            name = reader.text()
            features[name] = reader.int16()
            reader.int16()  # the lowest level
            reader.skip_tags()
    return features


class _Reader:
    """Kafka's primitive types from bytes, in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise IndexError(f"{size} bytes wanted at {self._at} of {len(self._data)}")
        self._at += size
        return self._data[self._at - size : self._at]

    def int16(self) -> int:
        return int(struct.unpack(">h", self._take(2))[0])

    def int32(self) -> int:
        return int(struct.unpack(">i", self._take(4))[0])

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self._take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise IndexError("a varint without an end")

    def array(self) -> int:
        """Length of a compact array, 0 for null."""
        return max(0, self.varint() - 1)

    def text(self) -> str:
        return self._take(self.array()).decode()

    def tags(self) -> dict[int, bytes]:
        found = {}
        for _ in range(self.varint()):
            tag = self.varint()
            found[tag] = self._take(self.varint())
        return found

    def skip_tags(self) -> None:
        self.tags()
