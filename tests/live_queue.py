"""A queue on a real Kafka for one test module: its topics made, and deleted afterwards."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from msgspec.structs import replace
from waiting import WAIT_S

from fairlane.producer import Parcel, from_json
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.connection import Connection
from fairlane.topics.ids import new_id
from fairlane.topics.names import QueueNames
from fairlane.topics.task import Task
from fairlane.topics.topology import Topology


@contextmanager
def live_queue(bootstrap: str, *, partitions: int = 3) -> Iterator[QueueNames]:
    """A queue with all its topics."""
    names = QueueNames(f"t-{uuid.uuid4().hex[:8]}")
    admin = TopicAdmin(Connection(bootstrap), timeout_s=60)
    admin.create(Topology.of(names, partitions=partitions, replication=1))
    try:
        yield names
    finally:
        admin.delete(names)


def wait_until(condition: Callable[[], object], what: str, *, timeout_s: float = WAIT_S) -> None:
    """Wait for a condition, or fail and say which."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)


def records(bootstrap: str, topic: str, *, timeout_s: float = WAIT_S) -> list[Message]:
    """All records of a topic, up to its present end; a partition that cannot be read to it fails the test."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": uuid.uuid4().hex,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # The end is told by an answer without records: where somebody writes twice a second (heartbeats), an
            # answer that waits half a second for records never is one.
            "fetch.wait.max.ms": 5,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        found: list[Message] = []
        open_partitions, errors = set(partitions), set[str]()
        deadline = time.monotonic() + timeout_s
        while open_partitions:
            late = (
                f"partitions {open_partitions} of {topic} were not read within {timeout_s:g} s: {errors or 'no error'}"
            )
            assert time.monotonic() < deadline, late
            for message in consumer.consume(500, 0.2):
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition() or 0)
                else:
                    errors.add(error.str())
        return found
    finally:
        consumer.close()


def headers_of(message: Message) -> dict[str, bytes | None]:
    """The headers of a record by name."""
    found: Any = message.headers() or []
    return dict(found)


def a_task(names: QueueNames, *, level: int = 3, task_id: str = "", value: bytes = b"{}", **fields: object) -> Task:
    """A task for a lane of the queue."""
    return Task(
        id=task_id or new_id(),
        type="email",
        payload=value,
        value=value,
        priority=level,
        lane=names.lane(level),
        enqueued_ms=time.time_ns() // 1_000_000,
        **fields,  # type: ignore[arg-type]
    )


def alike(task: Task, count: int, *, reply: bool = False) -> list[Parcel[Any]]:
    """So many tasks that differ from this one in their ids only, ready to be sent together."""
    return [Parcel(replace(task, id=new_id()), from_json, reply, task) for _ in range(count)]


def parcel(task: Task, *, reply: bool = False) -> Parcel[Any]:
    """The task, ready to be sent."""
    return Parcel(task, from_json, reply)
