"""A delivered record: a task, where it was read from, and in which assignment of its partition.

Invariant: both are frozen; what is done with a record is an outcome, never a change of the delivery.
"""

from __future__ import annotations

import msgspec

from fairlane.topics.task import Task

Partition = tuple[str, int]
"""Topic and partition number."""


class Assigned(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """One assignment of a partition to this process; `epoch` is its number, unique in the process.

    An outcome whose epoch is not the one of the newest lease is dropped: somebody else owns the record by then.
    """

    topic: str
    partition: int
    epoch: int

    @property
    def key(self) -> Partition:
        """The partition, whoever holds it."""
        return (self.topic, self.partition)


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One record as it was read.

    Attributes:
        task: what it says.
        assigned: the assignment that it was read under.
        offset: of the record.
        account: the back-pressure account that it is counted under: the lane's topic, or the one of all tiers.
        size_bytes: what it is counted as.
        losses: how many workers are known to have died while they ran it, from this partition's offset map.
    """

    task: Task
    assigned: Assigned
    offset: int
    account: str
    size_bytes: int
    losses: int = 0

    @property
    def kept(self) -> Task:
        """The task as it goes on from here: with the losses that only this partition's map knew of."""
        if not self.losses:
            return self.task
        return msgspec.structs.replace(self.task, worker_lost=self.task.worker_lost + self.losses)


class Unreadable(msgspec.Struct, frozen=True, gc=False):
    """One record that is no task, byte for byte, on its way to the DLQ; what it has in common with a Delivery."""

    assigned: Assigned
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def size_bytes(self) -> int:
        """What it is counted as."""
        return len(self.value) + len(self.key or b"") + sum([len(value) for _, value in self.headers if value])
