"""What Kafka itself says of a queue: until where its tasks are settled, and how many outcomes there are."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, Message, TopicPartition

from fairlane.topics.connection import Connection
from fairlane.topics.names import QueueNames


class Settled:
    """When everything that is in some topics now is settled by a consumer group.

    Args:
        connection: to Kafka.
        group: whose committed offsets count.
        topics: what it reads.
    """

    def __init__(self, connection: Connection, group: str, topics: Iterable[str]) -> None:
        # Offsets of a transaction that is not over yet are asked for again: after 5 ms, not after the default of 100,
        # which would be counted against whoever settled them meanwhile.
        self._consumer = Consumer(connection.consumer(group_id=group, retry_backoff_ms=5, retry_backoff_max_ms=10))
        known = self._consumer.list_topics(timeout=10).topics
        places = [TopicPartition(topic, number) for topic in topics for number in known[topic].partitions]
        self._ends = {
            (each.topic, each.partition): self._consumer.get_watermark_offsets(each, timeout=10)[1] for each in places
        }
        # The first answer takes longer: the group's coordinator is looked for.
        self._consumer.committed(places, timeout=10)

    def wait(self, timeout_s: float = 60, look_s: float = 0.003) -> float:
        """Returns `time.perf_counter()` of the first look at which all of it was committed.

        Args:
            timeout_s: how long that may take.
            look_s: the time between two looks. They cost Kafka and this process something: look often only when it
                cannot be long any more.

        Raises:
            SystemExit: it is not, in that time.
        """
        left = [TopicPartition(*place) for place, end in self._ends.items() if end]
        deadline = time.perf_counter() + timeout_s
        while time.perf_counter() < deadline:
            committed = self._consumer.committed(left, timeout=10)
            moment = time.perf_counter()
            left = [each for each in committed if each.offset < self._ends[each.topic, each.partition]]
            if not left:
                self._consumer.close()
                return moment
            time.sleep(look_s)
        raise SystemExit(f"{len(left)} partitions are not settled after {timeout_s} s")


def committed_records(connection: Connection, topic: str) -> Iterable[Message]:
    """Records of a topic from its beginning to its end now, as a read_committed reader sees them."""
    consumer = Consumer(connection.consumer(group_id=f"{topic}-count", enable_partition_eof=True))
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    ends = 0
    while ends < len(partitions):
        for message in consumer.consume(5_000, 1.0):
            if message.error() is None:
                yield message
            else:
                ends += 1
    consumer.close()


def expect_outcomes(connection: Connection, names: QueueNames, tasks: int) -> None:
    """Exactly one outcome for each task.

    Raises:
        SystemExit: there are more or fewer.
    """
    outcomes = sum(1 for _ in committed_records(connection, names.status))
    if outcomes != tasks:
        raise SystemExit(f"{tasks} tasks, {outcomes} outcomes")
