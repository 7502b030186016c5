"""A queue whose records a test writes itself: as foreign clients, workers and settlers would, by plain producers.

Invariant: what it wrote is acknowledged and visible when the call returns, so a test reads without waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from live_queue import wait_until
from msgspec.structs import replace

from fairlane.monitor.offsets import Offsets
from fairlane.monitor.record import Record, record_of
from fairlane.topics import wire
from fairlane.topics.audit import AuditRecord, encode_audit
from fairlane.topics.connection import Connection
from fairlane.topics.events import ErrorInfo, Heartbeat, Reason, StatusEvent, encode
from fairlane.topics.ids import new_id
from fairlane.topics.names import QueueNames, Tier
from fairlane.topics.task import Task

Place = tuple[str, int, int]
"""Topic, partition and offset of a record."""

Headers = Sequence[tuple[str, bytes | None]]

SECOND = Tier.parse("1s")
MINUTE = Tier.parse("1m")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class WrittenQueue:
    """The topics of a queue with two lanes (p5, p3) and two tiers (1s, 1m), three partitions each."""

    def __init__(self, bootstrap: str, queue: str, partitions: int = 3) -> None:
        self.connection = Connection(bootstrap)
        self.names = QueueNames(queue)
        self.partitions = partitions
        self._admin = AdminClient(self.connection.admin())
        self._offsets = Offsets(self.connection, timeout_s=10)
        self._producer = Producer(self.connection.producer())
        self._settler = Producer(self.connection.producer(transactional_id=f"{queue}-settler"))
        self._settler.init_transactions(10)
        names = self.names
        stored = [names.lane(5), names.lane(3), names.tier(SECOND), names.tier(MINUTE), names.dlq]
        self.topics: dict[str, Mapping[str, str]] = {
            **{topic: {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"} for topic in stored},
            names.status: {"cleanup.policy": "compact,delete"},
            names.workers: {"cleanup.policy": "compact"},
            names.audit: {},
            names.control: {"cleanup.policy": "compact"},
        }
        self.create(self.topics)

    def create(self, topics: Mapping[str, Mapping[str, str]]) -> None:
        made = self._admin.create_topics(
            [
                NewTopic(
                    topic,
                    num_partitions=1 if topic.endswith((".workers", ".audit", ".control")) else self.partitions,
                    replication_factor=1,
                    config=dict(config),
                )
                for topic, config in topics.items()
            ]
        )
        for future in made.values():
            future.result(60)
        self.topics = {**self.topics, **topics}
        # The answer comes before every broker, this one included, tells of them.
        wait_until(lambda: self._offsets.partitions().keys() >= topics.keys(), "the topics are there")

    def delete(self) -> None:
        for future in self._admin.delete_topics(list(self.topics)).values():
            future.result(60)

    def delete_topic(self, topic: str) -> None:
        self._admin.delete_topics([topic])[topic].result(60)
        self.topics = {name: config for name, config in self.topics.items() if name != topic}
        wait_until(lambda: topic not in self._offsets.partitions(), "the topic is gone")

    def send(
        self, topic: str, value: bytes | None, key: bytes | None = None, headers: Headers = (), partition: int = -1
    ) -> Place:
        return self._acknowledged(self._producer, [(topic, value, key, headers, partition)])[0]

    def settle(self, *records: tuple[str, bytes | None, bytes | None, Headers]) -> list[Place]:
        """Records in one transaction, as a settler writes them: a marker follows in each partition."""
        self._settler.begin_transaction()
        places = self._acknowledged(self._settler, [(*record, -1) for record in records])
        self._settler.commit_transaction(10)
        ends = {(topic, partition): offset + 1 for topic, partition, offset in places}
        assert self._offsets.await_visible(ends, 10)
        return places

    @contextmanager
    def unfinished_settlement(self, event: StatusEvent) -> Iterator[Callable[[], None]]:
        """An event in a transaction that is open until the given function is called."""
        self._settler.begin_transaction()
        self._acknowledged(self._settler, [(self.names.status, encode(event), event.id.encode(), (), -1)])
        yield lambda: self._settler.commit_transaction(10)

    def _acknowledged(
        self, producer: Producer, records: Sequence[tuple[str, bytes | None, bytes | None, Headers, int]]
    ) -> list[Place]:
        places: dict[int, Place] = {}
        failures: list[KafkaError] = []
        for number, (topic, value, key, headers, partition) in enumerate(records):

            def delivered(error: KafkaError | None, message: Message, number: int = number) -> None:
                if error is not None:
                    failures.append(error)
                else:
                    places[number] = (message.topic() or "", message.partition() or 0, message.offset() or 0)

            producer.produce(
                topic, value, key, partition, headers=[(name, text) for name, text in headers], on_delivery=delivered
            )
        producer.flush(10)
        assert not failures, failures
        return [places[number] for number in range(len(records))]

    def task(self, task_id: str = "", **fields: object) -> Task:
        task = Task(id=task_id or new_id(), type="email", payload=b'{"to":"ada@example.org"}', enqueued_ms=now_ms())
        return replace(task, **fields)

    def enqueue(self, task: Task, level: int = 3, partition: int = -1) -> Place:
        return self.send(self.names.lane(level), task.payload, task.id.encode(), wire.encode(task), partition)

    def read_back(self, place: Place) -> Task:
        """The task of a record in a lane, as a worker would read it."""
        record = self.record(place)
        return wire.decode(
            *place, record.timestamp_ms, record.key, record.value or b"", record.headers, lane=place[0], priority=3
        )

    def record(self, place: Place) -> Record:
        with self._reader() as consumer:
            consumer.assign([TopicPartition(*place)])
            message = consumer.poll(10)
            assert message is not None
            assert message.error() is None
            assert message.offset() == place[2]
            return record_of(message)

    def everything(self, topic: str) -> list[Record]:
        """All committed records of a topic."""
        found: list[Record] = []
        with self._reader() as consumer:
            count = len(consumer.list_topics(topic, timeout=60).topics[topic].partitions)
            consumer.assign([TopicPartition(topic, number, 0) for number in range(count)])
            while count:
                message = consumer.poll(10)
                assert message is not None, f"{topic} did not end within 10 s"
                if message.error() is None:
                    found.append(record_of(message))
                else:
                    count -= 1
        return found

    @contextmanager
    def _reader(self) -> Iterator[Consumer]:
        consumer = Consumer(
            self.connection.consumer(
                group_id="t", enable_partition_eof=True, auto_offset_reset="earliest", fetch_wait_max_ms=5
            )
        )
        try:
            yield consumer
        finally:
            consumer.close()

    def to_tier(self, task: Task, tier: Tier = MINUTE) -> Place:
        return self.settle((self.names.tier(tier), task.value or task.payload, task.key, wire.hop(task)))[0]

    def die(
        self,
        place: Place,
        reason: Reason = "max_attempts",
        error: ErrorInfo | None = None,
    ) -> Place:
        """The letter of the record at a place."""
        record = self.record(place)
        task = self.read_back(place) if reason != "malformed" else None
        headers = wire.dead_letter(
            record.headers,
            task=task,
            reason=reason,
            error=error,
            topic=place[0],
            partition=place[1],
            offset=place[2],
            group=self.names.group,
            now_ms=now_ms(),
        )
        return self.settle((self.names.dlq, record.value, record.key, headers))[0]

    def say(self, event: StatusEvent) -> Place:
        return self.settle((self.names.status, encode(event), event.id.encode(), ()))[0]

    def beat(self, beat: Heartbeat) -> Place:
        return self.send(self.names.workers, encode(beat), beat.worker.encode())

    def audit(self, record: AuditRecord) -> Place:
        return self.settle((self.names.audit, encode_audit(record), record.key, ()))[0]

    def ends(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Where partitions end now."""
        return self._offsets.ends(partitions)

    def commit(self, offsets: Mapping[tuple[str, int], int], metadata: str = "") -> None:
        """What the queue's workers would have committed."""
        consumer = Consumer(self.connection.consumer(group_id=self.names.group))
        committed = [TopicPartition(*partition, offset, metadata=metadata) for partition, offset in offsets.items()]
        consumer.commit(offsets=committed, asynchronous=False)
        consumer.close()
