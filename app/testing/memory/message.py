"""What a consumer of an in-memory broker returns from `poll`: a record, or an event of a partition.

Invariant: it has the methods of `confluent_kafka.Message`, and is frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, KafkaError

from fairlane.testing.memory.group import Partition
from fairlane.testing.memory.log import Stored


class MemoryMessage:
    """A record, or an event."""

    __slots__ = ("_appended", "_error", "_partition", "_record", "_topic")

    def __init__(
        self, partition: Partition | None, record: Stored, *, appended: bool = False, error: KafkaError | None = None
    ) -> None:
        self._topic: str | None = partition[0] if partition is not None else None
        self._partition = partition[1] if partition is not None else 0
        self._record = record
        self._appended = appended
        self._error = error

    @classmethod
    def event(cls, partition: Partition | None, offset: int, error: KafkaError) -> MemoryMessage:
        """An event of a partition, or of the consumer as a whole."""
        return cls(partition, Stored(offset, None, error.str().encode(), (), 0, 0), error=error)

    def topic(self) -> str | None:
        """Its topic."""
        return self._topic

    def partition(self) -> int:
        """Its partition."""
        return self._partition

    def offset(self) -> int:
        """Its offset; that of the end for the event of an end."""
        return self._record.offset

    def key(self) -> bytes | None:
        """Its key."""
        return self._record.key

    def value(self) -> bytes | None:
        """Its value."""
        return self._record.value

    def headers(self) -> Sequence[tuple[str, Any]] | None:
        """Its headers; None if it has none."""
        return list(self._record.headers) or None

    def timestamp(self) -> tuple[int, int]:
        """The kind of its timestamp, and the time in Unix milliseconds."""
        kind = TIMESTAMP_LOG_APPEND_TIME if self._appended else TIMESTAMP_CREATE_TIME
        return kind, self._record.timestamp_ms

    def leader_epoch(self) -> int:
        """There is one leader, for ever."""
        return 0

    def error(self) -> KafkaError | None:
        """None for a record."""
        return self._error

    def __len__(self) -> int:
        return len(self._record.value or b"")
