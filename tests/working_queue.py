"""A queue as it is declared, with workers on it: send tasks, wait for what became of them, count it by origin.

Invariant: what is counted is what a read_committed reader sees in Kafka, never what a worker says of itself.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from live_queue import headers_of, records, wait_until
from waiting import WAIT_S

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.pool import WorkerPool
from fairlane.topics import events, wire
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.connection import Connection
from fairlane.topics.events import TERMINAL, StatusEvent
from fairlane.topics.ids import new_id
from fairlane.topics.names import DEFAULT_TIERS, Lane, QueueNames
from fairlane.topics.task import Task
from fairlane.topics.topology import Topology


class WorkingQueue:
    """One queue on a real Kafka."""

    def __init__(self, bootstrap: str, names: QueueNames, lanes: Sequence[Lane] = ()) -> None:
        self.bootstrap = bootstrap
        self.names = names
        self.connection = Connection(bootstrap)
        self.lanes = tuple(lanes) or names.default_lanes()
        self._producer = Producer(self.connection.producer(linger_ms=2))
        self._events: dict[str, list[StatusEvent]] = defaultdict(list)
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._follower = threading.Thread(target=self._follow, name="test-follower", daemon=True)
        self._follower.start()

    # What a client does.

    def task(self, task_type: str, payload: bytes = b"{}", *, level: int = 3, **fields: Any) -> Task:
        return Task(
            id=fields.pop("task_id", "") or new_id(),
            type=task_type,
            payload=payload,
            value=payload,
            priority=level,
            lane=self.names.lane(level),
            source="test",
            enqueued_ms=time.time_ns() // 1_000_000,
            **fields,
        )

    def send(self, *tasks: Task, topic: str = "") -> None:
        """Write tasks to their lanes (or to a topic), and wait until they are there."""
        for task in tasks:
            self._producer.produce(topic or task.lane, task.value, task.key, headers=list(wire.encode(task)))
            self._producer.poll(0)
        self.flush()

    def send_raw(
        self, topic: str, value: bytes | None, *, key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        self._producer.produce(topic, value, key, headers=list(headers))
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    # What workers do.

    def config(self, **settings: Any) -> WorkerConfig:
        settings = {"worker": f"test-{uuid.uuid4().hex[:6]}", "lanes": self.lanes, "start_wait_s": 0.5, **settings}
        return WorkerConfig(self.connection, self.names.queue, **settings)

    @contextmanager
    def worker(self, *handlers: Callable[..., Any], policies: Any = None, **settings: Any) -> Iterator[WorkerPool]:
        """A worker in this process; each handler runs the task type of its name."""
        pool = WorkerPool(self.config(**settings))
        for handler in handlers:
            pool.register_handler(handler.__name__, handler, **(policies or {}).get(handler.__name__, {}))
        with pool:
            yield pool

    # What became of it.

    def _follow(self) -> None:
        consumer = Consumer(self.connection.consumer() | {"group.id": f"{self.names.queue}-test"})
        partitions = consumer.list_topics(self.names.status, timeout=60).topics[self.names.status].partitions
        consumer.assign([TopicPartition(self.names.status, partition, 0) for partition in partitions])
        while not self._stopping.is_set():
            for message in consumer.consume(1_000, 0.1):
                value = message.value()
                event = events.decode_status(value) if message.error() is None and value is not None else None
                if event is not None:
                    origin = (headers_of(message)["fairlane-origin"] or b"").decode()
                    with self._changed:
                        self._events[origin].append(event)
                        self._changed.notify_all()
        consumer.close()

    def events(self, task_id: str) -> list[StatusEvent]:
        """All events of a task, in order."""
        with self._changed:
            return [event for found in self._events.values() for event in found if event.id == task_id]

    def terminal(self) -> dict[str, list[StatusEvent]]:
        """The terminal events by origin."""
        with self._changed:
            ended = {
                origin: [event for event in found if event.state in TERMINAL] for origin, found in self._events.items()
            }
        return {origin: found for origin, found in ended.items() if found}

    def wait_ended(self, count: int, *, timeout_s: float = WAIT_S) -> dict[str, list[StatusEvent]]:
        """Wait until so many origins have a terminal event, and return them."""
        ends_at = time.monotonic() + timeout_s
        with self._changed:
            while len(self.terminal_unlocked()) < count:
                left_s = ends_at - time.monotonic()
                assert left_s > 0, f"{len(self.terminal_unlocked())} of {count} ended within {timeout_s:g} s"
                self._changed.wait(min(left_s, 0.5))
        return self.terminal()

    def terminal_unlocked(self) -> set[str]:
        return {origin for origin, found in self._events.items() if any(event.state in TERMINAL for event in found)}

    def wait_event(self, task: Task, state: str, *, timeout_s: float = WAIT_S) -> StatusEvent:
        """Wait until a task has an event of this state, and return it."""
        wait_until(
            lambda: any(event.state == state for event in self.events(task.id)),
            f"{task.type} is {state}",
            timeout_s=timeout_s,
        )
        return next(event for event in self.events(task.id) if event.state == state)

    def running(self, task_id: str) -> bool:
        """Whether some worker's newest heartbeat says that it runs the task."""
        beats = {}
        for message in records(self.bootstrap, self.names.workers):
            beat = events.decode_heartbeat(message.value() or b"")
            if beat is not None:
                beats[beat.worker] = beat
        return any(task.id == task_id for beat in beats.values() for task in beat.running_tasks)

    def letters(self) -> list[Message]:
        """The records of the DLQ."""
        return records(self.bootstrap, self.names.dlq)

    def lag(self) -> dict[tuple[str, int], int]:
        """What the consumer group has left to read, by Kafka's own end offsets."""
        consumer = Consumer(self.connection.consumer() | {"group.id": self.names.group})
        topics = [lane.topic for lane in self.lanes] + [self.names.tier(tier) for tier in DEFAULT_TIERS]
        found = {}
        for topic in topics:
            partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
            places = consumer.committed([TopicPartition(topic, number) for number in partitions], timeout=60)
            for place in places:
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, place.partition), timeout=60)
                found[(topic, place.partition)] = end - max(place.offset, 0)
        consumer.close()
        return {partition: left for partition, left in found.items() if left}

    def close(self) -> None:
        self._stopping.set()
        self._follower.join(60)


@contextmanager
def working_queue(
    bootstrap: str, *, partitions: int = 4, lanes: Sequence[Lane] = (), name: str = ""
) -> Iterator[WorkingQueue]:
    """A queue with its declared topics, deleted afterwards."""
    names = QueueNames(name or f"t-{uuid.uuid4().hex[:8]}")
    admin = TopicAdmin(Connection(bootstrap), timeout_s=60)
    admin.create(Topology.of(names, lanes=lanes or None, partitions=partitions))
    queue = WorkingQueue(bootstrap, names, lanes)
    try:
        yield queue
    finally:
        queue.close()
        admin.delete(names)
