"""What became of the soak's tasks, by Kafka itself: the status topic is followed while it grows, and counted by origin.

Invariant: an event is counted once, whether or not compaction removes it later; what is compared with it is what
Kafka had acknowledged to the producer.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from fairlane.topics.connection import Connection
from fairlane.topics.events import TERMINAL, decode_status
from fairlane.topics.names import QueueNames
from fairlane.topics.record_headers import headers_of


@dataclass(frozen=True)
class Account:
    """The tasks so far.

    Attributes:
        acknowledged: those that the producer knows to be in Kafka.
        followed: those that handlers enqueued by their outcomes, and that have ended.
        ended: terminal events, of all of them.
        open: acknowledged, or enqueued by an outcome, without a terminal event.
        duplicates: origins with more than one terminal event: the events beyond the first.
        wrong: those that ended otherwise than they should.
        unknown: terminal events of origins that nobody enqueued.
    """

    acknowledged: int
    followed: int
    ended: int
    open: int
    duplicates: int
    wrong: int
    unknown: int


class Census:
    """Follows a queue from now on.

    Args:
        connection: to Kafka.
        names: of the queue.
        acknowledged: the file that the producer writes.
    """

    def __init__(self, connection: Connection, names: QueueNames, acknowledged: Path) -> None:
        self._file = acknowledged
        self._read_to = 0
        self._acknowledged: set[str] = set()
        self._ended: set[str] = set()
        self._count: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._consumer = Consumer(connection.consumer(group_id=f"{names.queue}-soak"))
        partitions = self._consumer.list_topics(names.status, timeout=10).topics[names.status].partitions
        self._consumer.assign([TopicPartition(names.status, number, 0) for number in partitions])
        self._thread = threading.Thread(target=self._follow, name="soak-census", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            messages = self._consumer.consume(1_000, 0.2)
            with self._lock:
                for message in messages:
                    value = message.value()
                    event = decode_status(value) if message.error() is None and value else None
                    if event is not None and event.state in TERMINAL:
                        headers = dict(headers_of(message) or ())
                        self._take((headers["fairlane-origin"] or b"").decode(), event.type, event.state)
        self._consumer.close()

    def _take(self, origin: str, task_type: str, state: str) -> None:
        self._count["ended"] += 1
        self._count["duplicates"] += origin in self._ended
        if origin not in self._ended:
            self._count[f"{task_type} ended"] += 1
            self._count["wrong"] += state != ("failed" if task_type == "dead" else "completed")
        self._ended.add(origin)

    def account(self) -> Account:
        """What is known now."""
        with self._file.open() as file, self._lock:
            file.seek(self._read_to)
            text = file.read()
            whole = text.rfind("\n") + 1
            self._read_to += len(text[:whole].encode())
            self._acknowledged.update(text[:whole].splitlines())
            followed = self._count["follow ended"]
            # An order enqueues one task, which is there once the order has ended.
            to_follow = self._count["order ended"] - followed
            known = self._acknowledged & self._ended
            return Account(
                acknowledged=len(self._acknowledged),
                followed=followed,
                ended=self._count["ended"],
                open=len(self._acknowledged) - len(known) + max(0, to_follow),
                duplicates=self._count["duplicates"],
                wrong=self._count["wrong"],
                unknown=len(self._ended) - len(known) - followed + max(0, -to_follow),
            )

    def close(self) -> None:
        """Follow no more."""
        self._stopping.set()
        self._thread.join(10)
