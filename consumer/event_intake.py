"""What the reader does with partitions of `<queue>.events`: it hands records to their owners.

Invariant: owned by the reader's thread. Nothing of these partitions is settled by offset: how far they are is their
owners' to say. An owner begins when a lease is published that holds its partition, and not before: what it stages would
be dropped as that of somebody who owns it no more. What owners have not fed is bounded: beyond that their partitions
are paused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from confluent_kafka import Message

from fairlane.consumer.delivery import Assigned, Partition
from fairlane.consumer.owners import Gone, Opened, Owners, ReachedEnd
from fairlane.consumer.positions import Position

AHEAD_MAX: Final = 1_000
"""So many events of one partition wait for their owner at most, and a batch more."""
AHEAD_MAX_BYTES: Final = 8 << 20


class _Reading:
    __slots__ = ("handed", "paused", "position", "size_bytes")

    def __init__(self, position: Position) -> None:
        self.position = position
        self.handed = self.size_bytes = 0
        self.paused = False


class EventIntake:
    """Of one reader; without owners it reads nothing.

    Attributes:
        topic: what is read, "" where there are no owners.
    """

    def __init__(self) -> None:
        self.topic = ""
        self._owners: Owners | None = None
        self._readings: dict[Assigned, _Reading] = {}
        self._new: list[Opened] = []

    def own(self, owners: Owners, topic: str) -> None:
        """Read the events of these owners; said before the reader starts."""
        self.topic, self._owners = topic, owners

    @property
    def topics(self) -> list[str]:
        """What is read besides lanes and tiers."""
        return [self.topic] if self.topic else []

    def positions(self) -> dict[Partition, Position]:
        """Where reading of each partition began."""
        return {assigned.key: reading.position for assigned, reading in self._readings.items()}

    def opened(self, assigned: Assigned, position: Position) -> bool:
        """A partition came, and the next lease holds it; returns whether it starts paused."""
        self._readings[assigned] = _Reading(position)
        self._new.append(Opened(assigned, position.start))
        return False

    def _begin(self, owners: Owners) -> None:
        if self._new:
            owners.tell(*self._new)
            self._new.clear()

    def take(self, assigned: Assigned, batch: Sequence[Message]) -> bool:
        """Records were read; returns whether they are events."""
        reading = self._readings.get(assigned)
        if reading is None or self._owners is None:
            return False
        self._begin(self._owners)
        if batch:
            reading.handed += len(batch)
            reading.size_bytes += sum(len(message.value() or b"") for message in batch)
            self._owners.came(assigned, batch)
        return True

    def reached_end(self, assigned: Assigned | None, end: int) -> None:
        """A partition was read to its end."""
        if self._owners is not None and assigned in self._readings:
            self._begin(self._owners)
            self._readings[assigned].handed += 1
            self._owners.tell(ReachedEnd(assigned, end))

    def gone(self, assigned: Iterable[Assigned]) -> None:
        """Partitions left."""
        left = tuple(each for each in assigned if self._readings.pop(each, None) is not None)
        self._new = [each for each in self._new if each.assigned not in left]
        if self._owners is not None and left:
            self._owners.tell(Gone(left))

    def look(self, pause: list[Partition], resume: list[Partition]) -> None:
        """Add what is to be paused now and what is to be resumed now; said after a lease was published."""
        if self._owners is None:
            return
        self._begin(self._owners)
        for assigned, reading in self._readings.items():
            waiting = reading.handed - self._owners.fed.get(assigned, 0)
            if not waiting:
                reading.size_bytes = 0
            is_full = waiting >= AHEAD_MAX or reading.size_bytes >= AHEAD_MAX_BYTES
            if reading.paused != (is_full or (reading.paused and bool(waiting))):
                reading.paused = not reading.paused
                (pause if reading.paused else resume).append(assigned.key)
