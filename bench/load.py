"""The records that every subject of the throughput workload works on."""

from __future__ import annotations

import time

from confluent_kafka import Producer

from fairlane.topics import wire
from fairlane.topics.connection import Connection
from fairlane.topics.ids import new_id
from fairlane.topics.names import LEVELS, QueueNames
from fairlane.topics.task import Task


def fill(bootstrap: str, names: QueueNames, tasks: int) -> None:
    """Put no-op tasks on all lanes, as many on each."""
    producer = Producer(Connection(bootstrap).producer(linger_ms=20, queue_buffering_max_messages=500_000))
    now_ms = time.time_ns() // 1_000_000
    for number in range(tasks):
        level = LEVELS[number % len(LEVELS)]
        value = b'{"number":%d}' % number
        task = Task(
            id=new_id(),
            type="noop",
            payload=value,
            value=value,
            priority=level,
            lane=names.lane(level),
            source="bench",
            enqueued_ms=now_ms,
        )
        producer.produce(task.lane, value, headers=list(wire.encode(task)))
        if number % 1000 == 0:
            producer.poll(0)
    if producer.flush(60):
        raise SystemExit("the load did not reach Kafka")
