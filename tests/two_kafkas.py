"""The twin in memory and the real Kafka behind one small door, for the tests that both must pass.

Invariant: a test sees no difference but in what it may not rely on: how long things take.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]
from waiting import WAIT_S

from fairlane.testing.memory import MemoryBroker

Place = tuple[str, int]


class RealKafka:
    """A broker of Apache Kafka."""

    def __init__(self, bootstrap: str) -> None:
        self._base: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0}
        self._admin = AdminClient(self._base)
        self._consumers: list[Consumer] = []

    def topic(self, partitions: int = 1, config: dict[str, str] | None = None) -> str:
        name = f"conform-{uuid.uuid4().hex[:8]}"
        topic = NewTopic(name, partitions, 1, config=config or {})
        self._admin.create_topics([topic])[name].result(60)
        ends_at = time.monotonic() + 10
        while len(self._admin.list_topics(name, timeout=60).topics[name].partitions) < partitions:
            assert time.monotonic() < ends_at
        return name

    def add_partitions(self, topic: str, partitions: int) -> None:
        self._admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(60)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        for done in self._admin.delete_records([TopicPartition(topic, partition, before)]).values():
            done.result(60)

    def consumer(self, properties: dict[str, Any]) -> Consumer:
        consumer = Consumer({**self._base, "fetch.wait.max.ms": 20, "fetch.queue.backoff.ms": 1, **properties})
        self._consumers.append(consumer)
        return consumer

    def producer(self, properties: dict[str, Any]) -> Producer:
        quick = {"linger.ms": 0, "retry.backoff.ms": 10, "topic.metadata.propagation.max.ms": 500}
        return Producer({**self._base, **quick, **properties})

    def close(self) -> None:
        for each in self._consumers:
            each.close()


class Twin:
    """A broker in memory."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(session_timeout_s=1.0)

    def topic(self, partitions: int = 1, config: dict[str, str] | None = None) -> str:
        name = f"conform-{uuid.uuid4().hex[:8]}"
        self.broker.create_topic(name, partitions, config)
        return name

    def add_partitions(self, topic: str, partitions: int) -> None:
        self.broker.add_partitions(topic, partitions)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        self.broker.delete_records(topic, partition, before)

    def consumer(self, properties: dict[str, Any]) -> Consumer:
        return cast("Consumer", self.broker.consumer(properties))

    def producer(self, properties: dict[str, Any]) -> Producer:
        return cast("Producer", self.broker.producer(properties))

    def close(self) -> None:
        """Nothing outlives it."""


AnyKafka = RealKafka | Twin


class Reader:
    """A consumer as fairlane's reader is one, and what it was told."""

    def __init__(self, kafka: AnyKafka, group: str = "", **properties: Any) -> None:
        chosen = {name.replace("_", "."): value for name, value in properties.items()}
        self.consumer = kafka.consumer(
            {
                "group.id": group or uuid.uuid4().hex,
                "group.protocol": "consumer",
                "group.remote.assignor": "range",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                **chosen,
            }
        )
        self.told: list[tuple[str, list[Place]]] = []
        self.found: list[tuple[str, int, object]] = []
        """Name of the event or "record", its offset, and its value."""
        self.on_revoke: Callable[[], object] = lambda: None

    def subscribe(self, *topics: str, start: int = 0) -> None:
        def assigned(consumer: Consumer, places: list[TopicPartition]) -> None:
            self.told.append(("assign", _places(places)))
            consumer.incremental_assign([TopicPartition(each.topic, each.partition, start) for each in places])

        def revoked(consumer: Consumer, places: list[TopicPartition]) -> None:
            self.told.append(("revoke", _places(places)))
            self.on_revoke()
            consumer.incremental_unassign(places)

        def lost(consumer: Consumer, places: list[TopicPartition]) -> None:
            self.told.append(("lost", _places(places)))
            consumer.incremental_unassign(places)

        self.consumer.subscribe(list(topics), on_assign=assigned, on_revoke=revoked, on_lost=lost)

    def assign(self, topic: str, partition: int = 0, offset: int = 0) -> None:
        self.consumer.assign([TopicPartition(topic, partition, offset)])

    @property
    def held(self) -> list[Place]:
        return _places(self.consumer.assignment())

    def poll(self, timeout_s: float = 0.05) -> None:
        message = self.consumer.poll(timeout_s)
        if message is not None:
            error = message.error()
            name = "record" if error is None else error.name()
            self.found.append((name, cast("int", message.offset()), message.value() if error is None else None))

    @property
    def offsets(self) -> list[int]:
        return [offset for name, offset, _ in self.found if name == "record"]

    def read_to_end(self) -> int:
        """Read until the end is told; returns its offset."""
        self.found.clear()
        poll_until([self], lambda: any(name == "_PARTITION_EOF" for name, *_ in self.found))
        return self.found[-1][1]


def poll_until(readers: Iterable[Reader], done: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    """Let all of them poll until something is so."""
    ends_at = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < ends_at, "in vain"
        for each in readers:
            each.poll(0.02)


def poll_for(reader: Reader, seconds: float) -> None:
    """Let it poll for a while: for what must not happen."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        reader.poll(0.05)


class Writer:
    """A transactional producer as fairlane's settler has one."""

    def __init__(self, kafka: AnyKafka, transactional_id: str = "", **properties: Any) -> None:
        self.id = transactional_id or uuid.uuid4().hex
        chosen = {name.replace("_", "."): value for name, value in properties.items()}
        self.producer = kafka.producer({"transactional.id": self.id, "message.max.bytes": 100_000_000, **chosen})
        self.producer.init_transactions(20)
        self.reports: list[str] = []

    def write(self, topic: str, value: bytes = b"x", partition: int = 0, key: bytes | None = None) -> None:
        def report(error: KafkaError | None, _: object) -> None:
            self.reports.append("delivered" if error is None else error.name())

        self.producer.produce(topic, value, key, partition, on_delivery=report)

    def transact(self, topic: str, *values: bytes, commit: bool = True) -> None:
        self.producer.begin_transaction()
        for value in values:
            self.write(topic, value)
        self.producer.flush(20)
        (self.producer.commit_transaction if commit else self.producer.abort_transaction)(20)

    def settle(self, metadata: Any, *places: tuple[str, int, int, str]) -> str:
        """Commit offsets in a transaction of their own; "" or the name of the error, whose flags are checked."""
        self.producer.begin_transaction()
        try:
            self.producer.send_offsets_to_transaction([TopicPartition(*place) for place in places], metadata, 10)
        except KafkaException as error:
            refused: KafkaError = error.args[0]
            assert refused.txn_requires_abort()
            self.producer.abort_transaction(10)
            return refused.name()
        self.producer.commit_transaction(10)
        return ""


def raised(call: Callable[..., object], *arguments: Any) -> tuple[str, set[str]]:
    """The name of the error that a call raises, and its flags."""
    try:
        call(*arguments)
    except KafkaException as error:
        kafka: KafkaError = error.args[0]
        flags = {"retriable": kafka.retriable(), "abort": kafka.txn_requires_abort(), "fatal": kafka.fatal()}
        return kafka.name(), {name for name, is_set in flags.items() if is_set}
    return "", set()


def _places(found: Iterable[TopicPartition]) -> list[Place]:
    return sorted((each.topic, each.partition) for each in found)
