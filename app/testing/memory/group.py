"""A consumer group of the new protocol: members, their epochs, who has which partition, and what is committed.

Invariant: a partition is given to a member only when no other has it or has still to give it back; a member's epoch is
that of the newest assignment that it has taken part in.

As the broker has it (KIP-848, and KIP-1251 for what a commit may do): a change of members or of partitions raises the
group's epoch and makes a new target. A member first gives back what the target takes from it, and keeps its epoch until
it has; then it gets the new epoch and what is free of its target. Offsets sent in a transaction are accepted under the
member's newest epoch *for any partition, whoever owns it*, and under an older one only for those that the member
still has since then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import KafkaError

from fairlane.testing.memory.failures import failure

Partition = tuple[str, int]


class GroupMetadata(NamedTuple):
    """What `consumer_group_metadata()` returns; a consumer that is no member has an empty name and the epoch -1."""

    group: str
    member: str
    epoch: int


class Committed(NamedTuple):
    """A committed offset and its metadata."""

    offset: int
    metadata: str


class Told(NamedTuple):
    """What a heartbeat is answered with."""

    epoch: int
    assigned: frozenset[Partition]


@dataclass
class _Member:
    name: str
    instance: str | None
    topics: frozenset[str]
    rebalance_timeout_s: float
    silent_since: Callable[[float], float | None]
    epoch: int = 0
    assigned: dict[Partition, int] = field(default_factory=dict)
    """Each with the epoch under which it was given."""
    revoking: set[Partition] = field(default_factory=set)
    revoking_since: float = 0.0
    left_at: float | None = None
    """When a static member left for a while."""


class Group:
    """One consumer group; every method is fed `now`, seconds.

    Args:
        name: its `group.id`.
        partitions: how many partitions a topic has; 0 if there is none.
        session_timeout_s: after so long without a sign a member is dropped, seconds.
    """

    def __init__(self, name: str, partitions: Callable[[str], int], session_timeout_s: float) -> None:
        self.name = name
        self._partitions = partitions
        self._session_timeout_s = session_timeout_s
        self._members: dict[str, _Member] = {}
        self._epoch = 0
        self._target: dict[str, frozenset[Partition]] = {}
        self._changed = True
        self._topics: list[str] = []
        """All that any member wants."""
        self._counts: list[int] = []
        self.offsets: dict[Partition, Committed] = {}
        self.pending: dict[Partition, set[int]] = {}
        """Writers of open transactions that hold an offset of the partition."""

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the members."""
        return tuple(self._members)

    def assigned(self, member: str) -> frozenset[Partition]:
        """What a member has by the broker's books."""
        return frozenset(self._members[member].assigned) if member in self._members else frozenset()

    # Membership.

    def join(
        self,
        name: str,
        topics: Iterable[str],
        silent_since: Callable[[float], float | None],
        now: float,
        *,
        instance: str | None = None,
        rebalance_timeout_s: float = 300.0,
    ) -> None:
        """A consumer becomes a member.

        Raises:
            KafkaException: UNRELEASED_INSTANCE_ID, another member with this instance id has not left.
        """
        self.look(now)
        before = next((each for each in self._members.values() if instance and each.instance == instance), None)
        joined = _Member(name, instance, frozenset(topics), rebalance_timeout_s, silent_since)
        if before is not None:
            if before.left_at is None:
                raise failure(KafkaError.UNRELEASED_INSTANCE_ID, "the instance id is still used by another member")
            joined.assigned, joined.epoch = before.assigned, before.epoch
            self._changed |= before.topics != joined.topics
            del self._members[before.name]
            # The target goes with the instance: one that is back within its session moves nothing.
            self._target[name] = self._target.pop(before.name, frozenset())
        else:
            self._changed = True
        self._members[name] = joined
        self.look(now)

    def leave(self, name: str, now: float) -> None:
        """A member says goodbye; a static one keeps its partitions for a session timeout."""
        member = self._members.get(name)
        if member is None:
            return
        if member.instance is not None:
            member.left_at = now
        else:
            del self._members[name]
            self._changed = True
        self.look(now)

    def look(self, now: float) -> None:
        """Drop who is silent for too long, and make a new target if anything has changed."""
        for member in list(self._members.values()):
            since = member.left_at if member.left_at is not None else member.silent_since(now)
            is_late = member.revoking and now - member.revoking_since > member.rebalance_timeout_s
            if is_late or (since is not None and now - since > self._session_timeout_s):
                del self._members[member.name]
                self._changed = True
        if self._changed:
            self._topics = sorted({topic for each in self._members.values() for topic in each.topics})
        counts = [self._partitions(topic) for topic in self._topics]
        if self._changed or counts != self._counts:
            self._changed = False
            self._counts = counts
            self._epoch += 1
            self._target = self._range(dict(zip(self._topics, counts, strict=True)))

    def _range(self, counts: Mapping[str, int]) -> dict[str, frozenset[Partition]]:
        """The `range` assignor: every member gets the same partitions of every topic."""
        found: dict[str, set[Partition]] = {name: set() for name in self._members}
        for topic, count in counts.items():
            takers = sorted(
                (each for each in self._members.values() if topic in each.topics),
                key=lambda each: each.instance or each.name,
            )
            least, more = divmod(count, len(takers))
            first = 0
            for place, taker in enumerate(takers):
                share = least + (place < more)
                found[taker.name].update((topic, number) for number in range(first, first + share))
                first += share
        return {name: frozenset(partitions) for name, partitions in found.items()}

    def heartbeat(self, name: str, owned: Iterable[Partition], now: float) -> Told:
        """A member says what it has, and is told what it is to have.

        Raises:
            KafkaException: UNKNOWN_MEMBER_ID, the group has dropped it.
        """
        self.look(now)
        member = self._members.get(name)
        if member is None:
            raise failure(KafkaError.UNKNOWN_MEMBER_ID, "the group has dropped this member")
        if member.revoking.isdisjoint(owned):
            member.revoking.clear()
            self._advance(member, now)
        return Told(member.epoch, frozenset(member.assigned))

    def _advance(self, member: _Member, now: float) -> None:
        target = self._target[member.name]
        goes = set(member.assigned) - target
        if goes:
            for partition in goes:
                del member.assigned[partition]
            member.revoking = goes
            member.revoking_since = now
            return
        member.epoch = self._epoch
        taken = {
            partition
            for each in self._members.values()
            if each is not member
            for partition in (*each.assigned, *each.revoking)
        }
        for partition in target - taken - set(member.assigned):
            member.assigned[partition] = self._epoch

    # Offsets.

    def check(self, metadata: GroupMetadata, partitions: Iterable[Partition], now: float) -> None:
        """Whether a transaction may send offsets with this metadata.

        Raises:
            KafkaException: UNKNOWN_MEMBER_ID, or ILLEGAL_GENERATION for an epoch that is over.
        """
        self.look(now)
        if metadata.epoch < 0 and not metadata.member and not self._members:
            return  # A consumer that is no member may while there is none, as one that assigns by hand does.
        member = self._members.get(metadata.member)
        if member is None:
            raise failure(KafkaError.UNKNOWN_MEMBER_ID, "the group has no such member")
        if metadata.epoch == member.epoch:
            return
        for partition in partitions:
            given = member.assigned.get(partition)
            if given is None or metadata.epoch < given or metadata.epoch > member.epoch:
                raise failure(KafkaError.ILLEGAL_GENERATION, f"epoch {metadata.epoch} is over")
