"""The consumer of an in-memory broker.

Invariant: its methods answer and raise as those of `confluent_kafka.Consumer` do, with the group protocol of KIP-848:
callbacks come from `poll`, `consume` and `close`, on the caller's thread; what is taken is given back before anything
new is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from fairlane.testing.memory.failures import failure
from fairlane.testing.memory.fetching import Fetching
from fairlane.testing.memory.group import Committed, GroupMetadata, Partition
from fairlane.testing.memory.message import MemoryMessage
from fairlane.testing.memory.metadata import ClusterView, cluster_view

if TYPE_CHECKING:
    from fairlane.testing.memory.broker import MemoryBroker

NO_OFFSET: Final = -1001
LOOK_S: Final = 0.1
"""How often whoever waits looks for what happens with time alone: a session that is over, a transaction."""

OnPartitions = Callable[[Any, list[TopicPartition]], object]


class MemoryConsumer:
    """A consumer; `MemoryBroker.consumer` makes one."""

    def __init__(self, broker: MemoryBroker, properties: Mapping[str, Any]) -> None:
        self._broker = broker
        self._group = broker.group(properties["group.id"])
        self._instance: str | None = properties.get("group.instance.id")
        self._max_poll_s = float(properties.get("max.poll.interval.ms", 300_000)) / 1000
        self._fetching = Fetching(
            broker,
            self._group,
            committed=properties.get("isolation.level", "read_committed") == "read_committed",
            tells_end=bool(properties.get("enable.partition.eof", False)),
            reset=properties.get("auto.offset.reset", "latest"),
        )
        self._topics: tuple[str, ...] = ()
        self._callbacks: dict[str, OnPartitions | None] = {}
        self._member = ""
        self._epoch = -1
        self._owned: set[Partition] = set()
        """What the group gave, as far as this consumer has taken it."""
        self._heartbeat_at = 0.0
        self._last_poll = broker.clock.monotonic()
        self._polling = False
        self._fatal_told = False
        self._closed = False

    # The group.

    def subscribe(
        self,
        topics: Sequence[str],
        on_assign: OnPartitions | None = None,
        on_revoke: OnPartitions | None = None,
        on_lost: OnPartitions | None = None,
    ) -> None:
        """Become a member of the group; the callbacks are told what it gives and takes."""
        self._topics = tuple(topics)
        self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}

    def unsubscribe(self) -> None:
        """Leave the group."""
        self._leave()
        self._topics = ()

    def close(self) -> None:
        """Leave the group in good order: what it gave is given back first."""
        if self._closed:
            return
        self._broker.faults.before("close", self)
        self._leave()
        self._closed = True

    def _leave(self) -> None:
        if self._owned:
            going, self._owned = self._owned, set()
            self._tell("revoke", going)
        if self._member:
            with self._broker.clock.held():
                self._group.leave(self._member, self._broker.clock.monotonic())
                self._broker.clock.changed()
            self._member, self._epoch = "", -1

    def consumer_group_metadata(self) -> GroupMetadata:
        """What a transaction sends along with this consumer's offsets."""
        if self._member and not self._polling:
            # librdkafka goes on with heartbeats by itself: the epoch may be newer than the last poll.
            with self._broker.clock.held():
                self._heartbeat()
        return GroupMetadata(self._group.name, self._member, self._epoch)

    def memberid(self) -> str:
        """Its name in the group."""
        return self._member

    def _silent_since(self, now: float) -> float | None:
        since = self._broker.faults.silent_since(self)
        if since is None and not self._polling and now - self._last_poll > self._max_poll_s:
            since = self._last_poll + self._max_poll_s
        return since

    def _serve_group(self) -> MemoryMessage | None:
        """Do what the group asks; an event, if there is one to tell."""
        now = self._broker.clock.monotonic()
        if self._member and now - self._last_poll > self._max_poll_s:
            self._lose()
            error = KafkaError(KafkaError._MAX_POLL_EXCEEDED, "Application maximum poll interval exceeded")  # noqa: SLF001
            return MemoryMessage.event(None, 0, error)
        if not self._member:
            refused = self._join(now)
            if refused is not None or self._fatal_told:
                return refused
        with self._broker.clock.held():
            assigned = self._heartbeat()
        if assigned is None:
            self._lose()
            return None
        going = self._owned - assigned
        if going:
            self._owned -= going
            self._tell("revoke", going)
            with self._broker.clock.held():
                self._heartbeat_at = 0.0
                assigned = self._heartbeat()
                self._broker.clock.changed()
            # librdkafka says so even when nothing is added.
            self._tell("assign", ())
            if assigned is None:
                self._lose()
                return None
        coming = assigned - self._owned
        if coming:
            self._owned |= coming
            self._tell("assign", coming)
        return None

    def _join(self, now: float) -> MemoryMessage | None:
        if self._fatal_told:
            return None
        name = self._broker.new_name()
        try:
            with self._broker.clock.held():
                self._group.join(
                    name,
                    self._topics,
                    self._silent_since,
                    now,
                    instance=self._instance,
                    rebalance_timeout_s=self._max_poll_s,
                )
                self._broker.clock.changed()
        except KafkaException as refused:
            self._fatal_told = True
            return MemoryMessage.event(None, 0, KafkaError(KafkaError._FATAL, refused.args[0].str()))
        self._member, self._epoch, self._heartbeat_at = name, 0, 0.0
        self._assigned_by_group: frozenset[Partition] = frozenset()
        return None

    def _heartbeat(self) -> frozenset[Partition] | None:
        """What this member is to have; None if the group has dropped it."""
        now = self._broker.clock.monotonic()
        if now < self._heartbeat_at:
            return self._assigned_by_group
        try:
            told = self._group.heartbeat(self._member, self._owned, now)
        except KafkaException:
            return None
        spread = 1 + self._broker.rng.random() if self._broker.heartbeat_s else 0.0
        self._heartbeat_at = now + self._broker.heartbeat_s * spread / 2
        self._epoch = told.epoch
        self._assigned_by_group = told.assigned
        return told.assigned

    def _lose(self) -> None:
        """Others have it already."""
        self._member, self._epoch = "", -1
        lost, self._owned = self._owned, set()
        if lost:
            self._tell("lost" if self._callbacks.get("lost") is not None else "revoke", lost)

    def _tell(self, what: str, partitions: Iterable[Partition]) -> None:
        told = [TopicPartition(*partition) for partition in sorted(partitions)]
        before = self._fetching.generation
        callback = self._callbacks.get(what)
        if callback is not None:
            callback(self, told)
        if self._fetching.generation == before:
            # A callback that does not say what it wants gets what there is.
            (self.incremental_assign if what == "assign" else self.incremental_unassign)(told)

    # Records.

    def poll(self, timeout: float = -1) -> MemoryMessage | None:
        """The next record or event; None if none came within `timeout` seconds."""
        found = self._get(1, timeout)
        return found[0] if found else None

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[MemoryMessage]:
        """Up to so many records and events; waits for so many, or `timeout` seconds."""
        clock = self._broker.clock
        ends_at = clock.monotonic() + timeout if timeout >= 0 else float("inf")
        found: list[MemoryMessage] = []
        while len(found) < num_messages:
            more = self._get(num_messages - len(found), max(0.0, ends_at - clock.monotonic()), found)
            if not more:
                break
            found += more
        return found

    def _get(self, limit: int, timeout_s: float, before: list[MemoryMessage] | None = None) -> list[MemoryMessage]:
        """What comes next; `before` is what the same call has read and not returned yet."""
        self._expect_open()
        broker, clock = self._broker, self._broker.clock
        ends_at = clock.monotonic() + timeout_s if timeout_s >= 0 else float("inf")
        while True:
            broker.faults.before("poll", self)
            seen = clock.changes
            self._polling = self._last_poll + self._max_poll_s >= clock.monotonic()
            try:
                with clock.held():
                    broker.look()
                generation, places = self._fetching.generation, self._fetching.places if before else {}
                event = self._serve_group() if self._topics else None
                if before and self._fetching.generation != generation:
                    # As librdkafka does: what was read before the group took or gave something is not returned.
                    self._fetching.read_again(before, places)
                    before.clear()
                with clock.held():
                    found = [event] if event is not None else self._fetching.fetch(limit)
            finally:
                self._polling = False
                self._last_poll = clock.monotonic()
            left_s = ends_at - clock.monotonic()
            if found or left_s <= 0:
                return found
            self._polling = True
            clock.wait(seen, min(left_s, LOOK_S))

    def _expect_open(self) -> None:
        if self._closed:
            raise RuntimeError("Consumer closed")

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these and no others."""
        self._fetching.assign(partitions, anew=True)

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these too."""
        self._fetching.assign(partitions)

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these no more."""
        self._fetching.unassign([(each.topic, each.partition) for each in partitions])

    def unassign(self) -> None:
        """Read nothing more."""
        self._fetching.assign((), anew=True)

    def assignment(self) -> list[TopicPartition]:
        """What is read."""
        self._expect_open()
        return [TopicPartition(*partition) for partition in self._fetching.partitions]

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Return nothing of these until `resume`; it is remembered when they are unassigned and assigned again."""
        self._fetching.paused.update((each.topic, each.partition) for each in partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Go on with these."""
        self._fetching.paused.difference_update((each.topic, each.partition) for each in partitions)

    def seek(self, partition: TopicPartition) -> None:
        """Go on from an offset.

        Raises:
            KafkaException: _STATE, it is not assigned, or its reading has failed.
        """
        self._fetching.seek((partition.topic, partition.partition), partition.offset)

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """After which offset it has read of each; -1001 where nothing was read."""
        return [
            TopicPartition(each.topic, each.partition, self._fetching.read_to((each.topic, each.partition)))
            for each in partitions
        ]

    # What it asks.

    def committed(self, partitions: Sequence[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """The group's committed offsets; waits while a transaction is open that may change them.

        Raises:
            KafkaException: _TIMED_OUT, it is still open.
        """
        broker, clock = self._broker, self._broker.clock
        ends_at = clock.monotonic() + timeout if timeout >= 0 else float("inf")
        while True:
            broker.faults.before("committed", self)
            seen = clock.changes
            with clock.held():
                broker.look()
                if not any(self._group.pending.get((each.topic, each.partition)) for each in partitions):
                    return [self._committed(each) for each in partitions]
            left_s = ends_at - clock.monotonic()
            if left_s <= 0:
                raise failure(KafkaError._TIMED_OUT, "Failed to get committed offsets: Local: Timed out")
            clock.wait(seen, min(left_s, LOOK_S))

    def _committed(self, asked: TopicPartition) -> TopicPartition:
        known = self._group.offsets.get((asked.topic, asked.partition))
        if known is None:
            return TopicPartition(asked.topic, asked.partition, NO_OFFSET)
        return TopicPartition(asked.topic, asked.partition, known.offset, known.metadata)

    def commit(
        self,
        message: Any = None,
        offsets: Sequence[TopicPartition] | None = None,
        asynchronous: bool = True,
    ) -> list[TopicPartition] | None:
        """Commit offsets outside of any transaction.

        Raises:
            KafkaException: its membership is over.
        """
        if offsets is None:
            offsets = [TopicPartition(message.topic(), message.partition(), message.offset() + 1)]
        self._broker.faults.before("commit", self)
        with self._broker.clock.held():
            sent = {(each.topic, each.partition): Committed(each.offset, each.metadata or "") for each in offsets}
            metadata = GroupMetadata(self._group.name, self._member, self._epoch)
            self._group.check(metadata, sent, self._broker.clock.monotonic())
            self._group.offsets.update(sent)
            self._broker.clock.changed()
        return None if asynchronous else list(offsets)

    def offsets_for_times(self, partitions: Sequence[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """The first offset of each that is as old as the time given for its offset: -2 is the first, -1 the end."""
        self._broker.faults.before("offsets_for_times", self)
        with self._broker.clock.held():
            self._broker.look()
            return [self._fetching.offset_for(each) for each in partitions]

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = -1, cached: bool = False
    ) -> tuple[int, int]:
        """The first offset, and the end as far as this consumer's isolation sees it."""
        self._broker.faults.before("get_watermark_offsets", self)
        with self._broker.clock.held():
            self._broker.look()
            return self._fetching.bounds((partition.topic, partition.partition))

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterView:
        """The topics there are, or what there is to say of one."""
        self._broker.faults.before("list_topics", self)
        return cluster_view(self._broker.topics, topic)
