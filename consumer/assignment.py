"""Which partitions this process holds, and what it may settle now.

Invariant: an epoch is never used twice, and a lease is frozen: the group metadata and the epoch of every partition that
is held, as they were at one moment. The broker does not check that the partitions whose offsets a transaction sends
belong to its sender; that an outcome is settled only under a lease which holds its epoch is what keeps a slow settler
from overwriting the offsets of the partition's new owner.

A partition goes through held → closing → gone. A closing one is in the lease until its last outcomes are settled, and
takes no new record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from fairlane.consumer.delivery import Assigned, Partition


class Lease(msgspec.Struct, frozen=True, gc=False):
    """What may be settled now.

    Attributes:
        number: counts the leases; a later one has a higher number.
        metadata: the consumer group metadata, as the Kafka client gives it; None before the first assignment.
        epochs: the epoch of each partition that is held.
    """

    number: int
    metadata: Any
    epochs: Mapping[Partition, int]

    def holds(self, assigned: Assigned) -> bool:
        """Whether an outcome of this assignment may be settled."""
        return self.epochs.get((assigned.topic, assigned.partition)) == assigned.epoch


NO_LEASE = Lease(0, None, MappingProxyType({}))
"""Nothing is held yet."""


class Assignment:
    """The partitions that this process holds; owned by the thread that owns the consumer."""

    def __init__(self) -> None:
        self._next_epoch = 1
        self._held: dict[Partition, Assigned] = {}
        self._closing: dict[Partition, Assigned] = {}
        self._lease = NO_LEASE
        self._stale = True

    def assign(self, partitions: Iterable[Partition]) -> list[Assigned]:
        """Take partitions under new epochs; one that is still held or closing starts anew."""
        taken = []
        for topic, number in partitions:
            assigned = Assigned(topic, number, self._next_epoch)
            self._next_epoch += 1
            self._held[(topic, number)] = assigned
            self._closing.pop((topic, number), None)
            taken.append(assigned)
        self._stale = True
        return taken

    def close(self, partitions: Iterable[Partition]) -> list[Assigned]:
        """Begin to give partitions back: no new record of theirs is taken, what is open may still be settled."""
        closing = [self._held.pop(partition) for partition in partitions if partition in self._held]
        self._closing.update((assigned.key, assigned) for assigned in closing)
        return closing

    def gone(self, partitions: Iterable[Partition]) -> list[Assigned]:
        """Partitions are no longer ours: the next lease does not hold them."""
        lost = []
        for partition in partitions:
            assigned = self._held.pop(partition, None) or self._closing.pop(partition, None)
            if assigned is not None:
                lost.append(assigned)
        self._stale = True
        return lost

    def get(self, topic: str, partition: int) -> Assigned | None:
        """The assignment under which a record may be taken now; None while it closes or is somebody else's."""
        return self._held.get((topic, partition))

    @property
    def held(self) -> list[Assigned]:
        """Everything that is held and not closing."""
        return list(self._held.values())

    def lease(self, metadata: Any) -> Lease:
        """The lease of this moment, with a number of its own.

        Args:
            metadata: the group metadata as the client gives it after this poll.
        """
        if self._stale:
            both = {**self._closing, **self._held}
            epochs = MappingProxyType({partition: assigned.epoch for partition, assigned in both.items()})
            self._stale = False
        else:
            epochs = self._lease.epochs  # type: ignore[assignment]
        self._lease = Lease(self._lease.number + 1, metadata, epochs)
        return self._lease
