"""How far a consumer has read of each partition that it reads, and what comes next.

Invariant: a partition that is paused, or whose reading has failed, gives nothing. Its end is told once, and again when
more has been read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, TopicPartition

from fairlane.testing.memory.failures import failure
from fairlane.testing.memory.group import Group, Partition
from fairlane.testing.memory.message import MemoryMessage

if TYPE_CHECKING:
    from fairlane.testing.memory.broker import MemoryBroker

BEGINNING: Final = -2
END: Final = -1
NO_OFFSET: Final = -1001


class _Place:
    __slots__ = ("end_told", "failed", "position", "read_to")

    def __init__(self, position: int) -> None:
        self.position = position
        self.end_told = False
        self.failed = False
        self.read_to = NO_OFFSET


class Fetching:
    """The partitions that one consumer reads."""

    def __init__(self, broker: MemoryBroker, group: Group, *, committed: bool, tells_end: bool, reset: str) -> None:
        self._broker = broker
        self._group = group
        self._committed = committed
        self._tells_end = tells_end
        self._reset = reset
        self._places: dict[Partition, _Place] = {}
        self._turn = 0
        self.paused: set[Partition] = set()
        self.generation = 0
        """Counts the calls that changed what is read."""

    @property
    def partitions(self) -> list[Partition]:
        """What is read."""
        return list(self._places)

    def assign(self, partitions: Sequence[TopicPartition], *, anew: bool = False) -> None:
        """Read these, each from its offset, or from where the group has committed."""
        self.generation += 1
        if anew:
            self._places.clear()
        for each in partitions:
            partition = (each.topic, each.partition)
            self._places[partition] = _Place(self._start(partition, each.offset))

    def unassign(self, partitions: Sequence[Partition]) -> None:
        """Read these no more."""
        self.generation += 1
        for partition in partitions:
            self._places.pop(partition, None)

    def seek(self, partition: Partition, offset: int) -> None:
        """Go on from an offset."""
        place = self._places.get(partition)
        if place is None or place.failed:
            raise failure(KafkaError._STATE, f"Failed to seek to offset {offset}: Local: Erroneous state")  # noqa: SLF001
        place.position = self._start(partition, offset)
        place.end_told = False

    def read_again(self, messages: Sequence[MemoryMessage], before: Mapping[Partition, object]) -> None:
        """These were read and not returned; of partitions that are still what they were, they are read again.

        Args:
            messages: in order.
            before: what `places` was when they were read.
        """
        for message in reversed(messages):
            partition = (message.topic() or "", message.partition())
            place = self._places.get(partition)
            if place is not None and place is before.get(partition) and message.error() is None:
                place.position = message.offset()
                place.end_told = False

    @property
    def places(self) -> Mapping[Partition, object]:
        """What is read; a partition that is assigned anew is another object."""
        return self._places.copy()

    def read_to(self, partition: Partition) -> int:
        """After which offset it was read."""
        place = self._places.get(partition)
        return place.read_to if place is not None else NO_OFFSET

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset, and the end that this reader sees."""
        log = self._broker.log(partition)
        return log.low, log.stable_end if self._committed else log.end

    def offset_for(self, asked: TopicPartition) -> TopicPartition:
        """The first offset that is as old as the time that `asked` gives for its offset."""
        partition = (asked.topic, asked.partition)
        if asked.partition >= self._broker.partitions(asked.topic):
            return TopicPartition(*partition, NO_OFFSET)
        low, end = self.bounds(partition)
        if asked.offset == BEGINNING:
            return TopicPartition(*partition, low)
        if asked.offset == END:
            return TopicPartition(*partition, end)
        records = self._broker.log(partition).visible()
        found = next((record.offset for record in records if record.timestamp_ms >= asked.offset), END)
        return TopicPartition(*partition, found)

    def _start(self, partition: Partition, offset: int) -> int:
        if offset >= 0:
            return offset
        low, end = self.bounds(partition)
        if offset == BEGINNING:
            return low
        if offset == END:
            return end
        known = self._group.offsets.get(partition)
        if known is not None:
            return known.offset
        return {"earliest": low, "smallest": low, "latest": end, "largest": end}.get(self._reset, NO_OFFSET)

    def fetch(self, limit: int) -> list[MemoryMessage]:
        """Up to so many records and events, in runs of one partition."""
        found: list[MemoryMessage] = []
        partitions = list(self._places)
        if not partitions:
            return found
        # Where a fetch begins is nobody's promise.
        self._turn = self._broker.rng.randrange(len(partitions))
        for partition in partitions[self._turn :] + partitions[: self._turn]:
            if len(found) >= limit:
                break
            place = self._places[partition]
            if partition not in self.paused and not place.failed:
                found += self._of(partition, place, limit - len(found))
        return found

    def _of(self, partition: Partition, place: _Place, limit: int) -> list[MemoryMessage]:
        log = self._broker.log(partition)
        if not log.low <= place.position <= log.end:
            low, end = self.bounds(partition)
            if self._reset not in ("earliest", "latest"):
                place.failed = True
                error = KafkaError(
                    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001
                    "no previously committed offset available, or out of range",
                )
                return [MemoryMessage.event(partition, place.position, error)]
            place.position = low if self._reset == "earliest" else end
        records, position = log.read(place.position, limit, committed=self._committed)
        appended = self._broker.stamps_itself(partition[0])
        found = [MemoryMessage(partition, record, appended=appended) for record in records]
        if position != place.position:
            place.position = position
            place.end_told = False
        if records:
            place.read_to = records[-1].offset + 1
        # The end of a reader of what is committed is where the first open transaction begins.
        if self._tells_end and not place.end_told and len(found) < limit and position >= self.bounds(partition)[1]:
            place.end_told = True
            found.append(MemoryMessage.event(partition, position, KafkaError(KafkaError._PARTITION_EOF)))
        return found
