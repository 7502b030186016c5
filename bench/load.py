"""The records that subjects work on: tasks as a producer of fairlane writes them, by a plain producer, for speed.

Each carries the trace context of a trace that is not sampled, as tasks do whose callers trace one request of many.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from confluent_kafka import Producer

from fairlane.topics import wire
from fairlane.topics.connection import Connection
from fairlane.topics.ids import new_id
from fairlane.topics.names import DEFAULT_TIERS, LEVELS, QueueNames
from fairlane.topics.routing import first_topic
from fairlane.topics.task import Task

SAMPLED: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED: Final = SAMPLED[:-2] + "00"


def producer(connection: Connection, **properties: object) -> Producer:
    """One that takes any load."""
    return Producer(connection.producer(linger_ms=20, queue_buffering_max_messages=1_000_000, **properties))


def headers(task_type: str, traceparent: str = UNSAMPLED) -> list[tuple[str, str | bytes | None]]:
    """Of a task that a producer of fairlane has made now, all but its id."""
    now_ms = time.time_ns() // 1_000_000
    task = Task(id="", type=task_type, payload=b"", source="bench", enqueued_ms=now_ms, traceparent=traceparent)
    return [header for header in wire.encode(task) if header[0] != "ce_id"]


def put(
    to: Producer, names: QueueNames, levels: Sequence[int], numbers: Iterable[int], task_type: str, traceparent: str
) -> None:
    """Hand tasks over, as many to each lane; value `{"number": n}`, whose lane is `levels[n % len(levels)]`."""
    fixed = headers(task_type, traceparent)
    lanes = [names.lane(level) for level in levels]
    count = len(lanes)
    for number in numbers:
        to.produce(lanes[number % count], b'{"number":%d}' % number, headers=[*fixed, ("ce_id", new_id())])
        if number % 1_000 == 0:
            to.poll(0)


def fill(
    connection: Connection,
    names: QueueNames,
    tasks: int,
    task_type: str = "noop",
    *,
    levels: Sequence[int] = LEVELS,
    traceparent: str = UNSAMPLED,
) -> None:
    """Put tasks on lanes, as many on each, and wait until Kafka has them."""
    to = producer(connection)
    put(to, names, levels, range(tasks), task_type, traceparent)
    arrived(to)


def delay(connection: Connection, names: QueueNames, tasks: int, task_type: str, delays_s: Sequence[float]) -> None:
    """Put delayed tasks into the tiers, as a producer does; each delay for as many of them."""
    to = producer(connection)
    for number in range(tasks):
        now_ms = time.time_ns() // 1_000_000
        task = Task(
            id=new_id(),
            type=task_type,
            payload=b'{"number":%d}' % number,
            lane=names.lane(3),
            source="bench",
            enqueued_ms=now_ms,
            not_before_ms=now_ms + int(1000 * delays_s[number % len(delays_s)]),
            traceparent=UNSAMPLED,
        )
        to.produce(first_topic(task, names, DEFAULT_TIERS, now_ms), task.payload, headers=list(wire.encode(task)))
        if number % 1_000 == 0:
            to.poll(0)
    arrived(to)


def arrived(to: Producer) -> None:
    """Wait until Kafka has all.

    Raises:
        SystemExit: it does not take it.
    """
    if to.flush(120):
        raise SystemExit("the load did not reach Kafka")
