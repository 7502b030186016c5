"""Fakes of the Kafka client's own objects, with the methods that the worker calls: a message, a consumer.

Invariant: a fake only says and notes; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition


class FakeMessage:
    """A record, or an event of a partition, as `poll` returns it."""

    def __init__(
        self,
        offset: int,
        value: bytes | None = b'{"type": "send", "payload": {}}',
        *,
        topic: str = "shop.p5",
        partition: int = 0,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes | None]] | None = None,
        timestamp_ms: int = 0,
        error: KafkaError | None = None,
    ) -> None:
        self._topic, self._partition, self._offset = topic, partition, offset
        self._key, self._value, self._headers = key, value, headers
        self._timestamp_ms = timestamp_ms
        self._error = error

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Sequence[tuple[str, bytes | None]] | None:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return (2, self._timestamp_ms)

    def error(self) -> KafkaError | None:
        return self._error


def message(offset: int, value: bytes | None = b'{"type": "send", "payload": {}}', **fields: Any) -> Message:
    """A record; a bare JSON task in `shop.p5`, partition 0, unless it says otherwise."""
    return cast("Message", FakeMessage(offset, value, **fields))


def end_of_partition(offset: int, **fields: Any) -> Message:
    """The event that a partition was read to its end."""
    return cast("Message", FakeMessage(offset, None, error=KafkaError(KafkaError._PARTITION_EOF), **fields))


def failure(code: int, *, offset: int = 0, **fields: Any) -> Message:
    """An error that comes as a message."""
    return cast("Message", FakeMessage(offset, None, error=KafkaError(code), **fields))


class FakeConsumer:
    """Notes what is asked of it.

    Args:
        batches: what each poll, with the drain after it, returns; empty ones from then on.
        committed: the group's offset and metadata of a partition; none where it is not named.
        ends: the end of each partition's log; 0 where it is not named.
        lows: its beginning; 0 where it is not named.
    """

    def __init__(
        self,
        batches: Sequence[Sequence[Message]] = (),
        *,
        committed: Mapping[tuple[str, int], tuple[int, str]] | None = None,
        ends: Mapping[tuple[str, int], int] | None = None,
        lows: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        self._batches = [list(batch) for batch in batches]
        self._rest: list[Message] = []
        self._committed = dict(committed or {})
        self._ends = dict(ends or {})
        self._lows = dict(lows or {})
        self.patiences_s: list[float] = []
        self.calls: list[tuple[str, list[tuple[str, int, int]]]] = []
        self.before_metadata: Callable[[], object] = lambda: None

    def as_consumer(self) -> Consumer:
        return cast("Consumer", self)

    def named(self, name: str) -> list[list[tuple[str, int, int]]]:
        """The arguments of all calls of a method."""
        return [places for called, places in self.calls if called == name]

    def _note(self, name: str, places: Sequence[TopicPartition]) -> None:
        self.calls.append((name, [(each.topic, each.partition, each.offset) for each in places]))

    def poll(self, timeout: float) -> Message | None:
        self.patiences_s.append(timeout)
        self._rest = self._batches.pop(0) if self._batches else []
        return self._rest.pop(0) if self._rest else None

    def consume(self, _count: int, _timeout: float) -> list[Message]:
        drained, self._rest = self._rest, []
        return drained

    def consumer_group_metadata(self) -> object:
        self.before_metadata()
        return "metadata"

    def assignment(self) -> list[TopicPartition]:
        return []

    def pause(self, places: Sequence[TopicPartition]) -> None:
        self._note("pause", places)

    def resume(self, places: Sequence[TopicPartition]) -> None:
        self._note("resume", places)

    def seek(self, place: TopicPartition) -> None:
        self._note("seek", [place])

    def incremental_assign(self, places: Sequence[TopicPartition]) -> None:
        self._note("assign", places)

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        self._note("unassign", places)

    def committed(self, places: Sequence[TopicPartition], timeout: float = 0) -> list[TopicPartition]:
        found = []
        for each in places:
            offset, metadata = self._committed.get((each.topic, each.partition), (-1001, ""))
            found.append(TopicPartition(each.topic, each.partition, offset, metadata))
        return found

    def offsets_for_times(self, places: Sequence[TopicPartition], timeout: float = 0) -> list[TopicPartition]:
        # The earliest is asked for by -2, the latest by -1.
        found = []
        for each in places:
            bounds = self._lows if each.offset == -2 else self._ends
            found.append(TopicPartition(each.topic, each.partition, bounds.get((each.topic, each.partition), 0)))
        return found
