"""A Kafka in memory that behaves as the real one does where fairlane depends on it.

Invariant: everything that happens here happens at once and under the clock's lock; a client sees the same answers, the
same errors with the same flags, and the same order of callbacks as from confluent-kafka and a real broker. One suite of
tests holds that against both (`tests/test_kafka_conformance.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError

from fairlane.testing.memory.clock import Clock, WallClock
from fairlane.testing.memory.consumer import MemoryConsumer
from fairlane.testing.memory.failures import failure
from fairlane.testing.memory.faults import Faults
from fairlane.testing.memory.group import Group, Partition
from fairlane.testing.memory.log import Headers, PartitionLog, Stored
from fairlane.testing.memory.producer import MemoryProducer
from fairlane.testing.memory.transactions import Commit, Transactions
from fairlane.topics.partitioner import partition_of

MESSAGE_MAX_BYTES: Final = 1_048_588
"""Kafka's default of `max.message.bytes`."""
RECORD_BYTES: Final = 70
"""What a record costs besides its key, value and headers, about."""
SESSION_TIMEOUT_S: Final = 6.0


@dataclass
class _Topic:
    logs: list[PartitionLog]
    config: Mapping[str, str] = field(default_factory=dict)


class MemoryBroker:
    """A Kafka in memory.

        broker = MemoryBroker()
        broker.create_topic("orders", partitions=3)
        producer = broker.producer({"transactional.id": "a"})
        consumer = broker.consumer({"group.id": "g", "isolation.level": "read_committed"})

    It has topics with partitions, offsets and markers, transactions with read_committed, fencing and timeouts, consumer
    groups with epochs and cooperative assignment, offsets with metadata in transactions, compaction and retention
    (when `compact` and `expire` are called), and limits of size. It has no replicas, no disk, no rights and no network
    but `faults`.

    Args:
        clock: the time; that of the machine unless a simulation brings its own.
        faults: what goes wrong.
        rng: draws partitions for records without a key, names of members, and where a fetch begins.
        session_timeout_s: after so long without a sign a member is dropped from its group, seconds.
        heartbeat_s: how often a member asks what it is to have, seconds; 0 is at every poll.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        faults: Faults | None = None,
        rng: random.Random | None = None,
        session_timeout_s: float = SESSION_TIMEOUT_S,
        heartbeat_s: float = 0.0,
    ) -> None:
        self.clock: Clock = clock or WallClock()
        self.faults = faults or Faults()
        self.rng = rng or random.Random()  # noqa: S311 - nothing secret is drawn
        self.heartbeat_s = heartbeat_s
        self.on_commit: Callable[[Commit], None] = lambda _: None
        """Told of every transaction that is committed, at that moment."""
        self._session_timeout_s = session_timeout_s
        self._topics: dict[str, _Topic] = {}
        self._groups: dict[str, Group] = {}
        self.transactions = Transactions(self.log, self.group, lambda commit: self.on_commit(commit))
        self._names = 0

    # Clients.

    def consumer(self, properties: Mapping[str, Any], logger: object = None) -> MemoryConsumer:
        """A consumer, as `confluent_kafka.Consumer(properties)` makes one.

        Args:
            properties: by librdkafka's names; those that mean nothing here are passed over.
            logger: taken for the sake of the signature.
        """
        return MemoryConsumer(self, properties)

    def producer(self, properties: Mapping[str, Any], logger: object = None) -> MemoryProducer:
        """A producer, as `confluent_kafka.Producer(properties)` makes one; arguments as for `consumer`."""
        return MemoryProducer(self, properties)

    # Topics.

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Make a topic.

        Args:
            name: its name.
            partitions: how many it has.
            config: `cleanup.policy`, `max.message.bytes`, `message.timestamp.type`, `retention.ms`.
        """
        with self.clock.held():
            self._topics[name] = _Topic([PartitionLog() for _ in range(partitions)], dict(config or {}))
            self.clock.changed()

    def add_partitions(self, name: str, partitions: int) -> None:
        """Let a topic have so many partitions in all."""
        with self.clock.held():
            logs = self._topics[name].logs
            logs += [PartitionLog() for _ in range(partitions - len(logs))]
            self.clock.changed()

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Delete what lies below an offset, as DeleteRecords does."""
        with self.clock.held():
            self.log((topic, partition)).delete_before(before)
            self.clock.changed()

    def compact(self, topic: str) -> None:
        """Let the log cleaner run over a topic with `cleanup.policy=compact`: the newest record of each key stays."""
        with self.clock.held():
            for log in self._topics[topic].logs:
                log.compact()
            self.clock.changed()

    def expire(self, topic: str) -> None:
        """Delete what is older than the topic's `retention.ms`, if it has one."""
        with self.clock.held():
            retention_ms = int(self._topics[topic].config.get("retention.ms", "-1"))
            if retention_ms >= 0:
                for log in self._topics[topic].logs:
                    log.expire(self.clock.now_ms() - retention_ms)
            self.clock.changed()

    @property
    def topics(self) -> Mapping[str, int]:
        """The topics there are, and how many partitions each has."""
        return {name: len(topic.logs) for name, topic in self._topics.items()}

    def records(self, topic: str) -> list[Stored]:
        """All that a read_committed reader would find in a topic, partition by partition."""
        with self.clock.held():
            return [record for log in self._topics[topic].logs for record in log.visible()]

    # What its clients ask; under the clock's lock.

    def log(self, partition: Partition) -> PartitionLog:
        """The log of a partition that exists."""
        return self._topics[partition[0]].logs[partition[1]]

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 if there is none."""
        return len(self._topics[topic].logs) if topic in self._topics else 0

    def group(self, name: str) -> Group:
        """A group, whether it has members or not."""
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(name, self.partitions, self._session_timeout_s)
        return group

    def look(self) -> None:
        """What happens by itself as time goes by."""
        now = self.clock.monotonic()
        self.transactions.expire(now)
        for group in self._groups.values():
            group.look(now)

    def new_name(self) -> str:
        """A name for a member that nobody else has."""
        self._names += 1
        return f"{self.rng.getrandbits(48):012x}-{self._names}"

    def choose(self, topic: str, key: bytes | None) -> int:
        """The partition of a record that names none, as `murmur2_random` has it."""
        count = self.partitions(topic)
        return self.rng.randrange(count) if key is None else partition_of(key, count)

    def write(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp_ms: int,
        writer: Callable[[], int],
    ) -> Stored:
        """Append a record.

        Raises:
            KafkaException: UNKNOWN_TOPIC_OR_PART, MSG_SIZE_TOO_LARGE or INVALID_RECORD (no key in a compacted topic).
        """
        found = self._topics.get(topic)
        if found is None or partition >= len(found.logs):
            raise failure(KafkaError.UNKNOWN_TOPIC_OR_PART, "there is no such topic or partition")
        size_bytes = RECORD_BYTES + len(key or b"") + len(value or b"")
        size_bytes += sum(len(name) + len(text or b"") for name, text in headers)
        if size_bytes > int(found.config.get("max.message.bytes", MESSAGE_MAX_BYTES)):
            raise failure(KafkaError.MSG_SIZE_TOO_LARGE, "Message size too large")
        if key is None and "compact" in found.config.get("cleanup.policy", "delete"):
            raise failure(KafkaError.INVALID_RECORD, "a compacted topic takes no record without a key")
        if found.config.get("message.timestamp.type") == "LogAppendTime" or not timestamp_ms:
            timestamp_ms = self.clock.now_ms()
        stored = found.logs[partition].append(key, value, headers, timestamp_ms, writer())
        self.clock.changed()
        return stored

    def stamps_itself(self, topic: str) -> bool:
        """Whether the topic's records have the time of their append."""
        return self._topics[topic].config.get("message.timestamp.type") == "LogAppendTime"
