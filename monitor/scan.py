"""Reads bounded stretches of topics, outside of any consumer group.

Invariant: it commits nothing, joins nothing and ends: each partition is read from where it was asked to its end (the
last stable offset, so nothing of an open transaction), or the deadline says how far it came.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fairlane.monitor.errors import ReadIncomplete
from fairlane.topics.admin_client import refused
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.connection import Connection
from fairlane.topics.denial import on_group, on_topic
from fairlane.topics.errors import KafkaUnreachable
from fairlane.topics.rights import Right

Partition = tuple[str, int]
"""Topic and partition number."""


class Commit(NamedTuple):
    """An offset that a group has committed, and what it said beside it."""

    offset: int
    metadata: str


Span = tuple[int, int]
"""From an offset to before another."""

BEGINNING: Final = 0
"""What begins later answers with its own beginning. librdkafka's OFFSET_BEGINNING costs half a second of retries."""

_UNREACHABLE: Final = frozenset(
    {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}
)
_COORDINATOR_MOVES: Final = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    }
)
_BATCH: Final = 1_000
_WAIT_S: Final = 0.1


@contextmanager
def reaching(connection: Connection, timeout_s: float, action: str, *asked: Right) -> Iterator[None]:
    """Turns errors of Kafka into those of fairlane: nobody answered, or somebody said no.

    Args:
        connection: to the cluster.
        timeout_s: how long an answer may take, seconds.
        action: what is asked for, as in "Kafka refused to …".
        asked: the rights that it needs.
    """
    try:
        yield
    except KafkaException as error:
        kafka_error: KafkaError = error.args[0]
        if kafka_error.code() in _UNREACHABLE:
            raise KafkaUnreachable(connection.bootstrap, timeout_s, kafka_error.str()) from error
        raise refused(action, kafka_error, connection, *asked) from error
    except TimeoutError as error:
        raise KafkaUnreachable(connection.bootstrap, timeout_s) from error


def committed(
    consumer: Consumer, connection: Connection, group: str, partitions: Iterable[Partition], timeout_s: float
) -> list[TopicPartition]:
    """What a group has committed; asked again while its coordinator is on its way, as on a Kafka that has just started.

    An AdminClient would be asked for that, but its answer is a segmentation fault where a coordinator has moved or is
    not there yet (librdkafka handles the error in the state of a group that an AdminClient does not have).

    Args:
        consumer: of that group, which it need not have joined.
        connection: to the cluster.
        group: its name.
        partitions: asked for.
        timeout_s: how long the answer may take, seconds.

    Raises:
        RightMissing: we may not know it.
        KafkaUnreachable: no coordinator answered.
    """
    asked = [TopicPartition(*partition) for partition in partitions]
    if not asked:
        return []
    ends_at = time.monotonic() + timeout_s
    asked_for = f"say what group {group} has committed", on_group("Describe", group)
    with reaching(connection, timeout_s, *asked_for):
        while True:
            left_s = max(_WAIT_S, ends_at - time.monotonic())
            try:
                return list(consumer.committed(asked, timeout=left_s))
            except KafkaException as error:
                if error.args[0].code() not in _COORDINATOR_MOVES or time.monotonic() >= ends_at:
                    raise
            time.sleep(_WAIT_S)


class Scanner:
    """A consumer without a group that reads stretches of topics, one stretch at a time.

    Args:
        connection: to the cluster.
        timeout_s: how long everything that is read with it may take together, seconds.
        group: whose commits can be asked for; it is not joined. librdkafka asks where it is in any case.
        fetch_bytes: how much of one partition is asked for at once; small where only the first records matter.
        ahead: how many records of a partition are read ahead; few where only the first matter.

    Raises:
        KafkaUnreachable: no broker answered within the time.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        timeout_s: float,
        group: str,
        fetch_bytes: int = 1_048_576,
        ahead: int = 100_000,
    ) -> None:
        self._connection = connection
        self._group = group
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        # Waiting on the broker for more is for readers that follow; one that wants the end wants it now
        # (with the default of 500 ms each end of a partition costs half a second).
        self._consumer = Consumer(
            connection.consumer(
                group_id=group,
                enable_partition_eof=True,
                auto_offset_reset="earliest",
                fetch_wait_max_ms=5,
                fetch_message_max_bytes=fetch_bytes,
                queued_min_messages=ahead,
            ),
            logger=librdkafka_log,
        )
        self._topics: set[str] = set()
        self._reading = False
        self._read = self._answers = 0
        self.ends: dict[Partition, int] = {}
        """Where each partition that was read to its end ended: the place to go on from."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    @property
    def left_s(self) -> float:
        """How much of the time is left, seconds; never less than a tenth, so that the last call can still answer."""
        return max(0.1, self._deadline - time.monotonic())

    def renew(self, timeout_s: float | None = None) -> None:
        """Start the time anew, for a reader that is kept open; as long as before, or `timeout_s` seconds."""
        self._deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)

    def partitions(self) -> dict[str, int]:
        """All topics of the cluster and how many partitions each has."""
        with reaching(self._connection, self._timeout_s, "list the topics"):
            topics = self._consumer.list_topics(timeout=self.left_s).topics
        return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}

    def commits(self, partitions: Iterable[Partition]) -> dict[Partition, Commit]:
        """What the group has committed of these partitions; those of which it has nothing are left out."""
        answered = committed(self._consumer, self._connection, self._group, partitions, self.left_s)
        return {
            (found.topic, found.partition): Commit(found.offset, found.metadata or "")
            for found in answered
            if found.error is None and found.offset >= 0
        }

    def read(
        self,
        starts: Mapping[Partition, int],
        stops: Mapping[Partition, int] | None = None,
        most: Mapping[Partition, int] | None = None,
    ) -> Generator[Message]:
        """The records of each partition from its start to its end as it is when it is reached.

        Args:
            starts: offset of each partition, or BEGINNING.
            stops: for some of them, an offset before which to stop.
            most: for some of them, after how many records to stop.

        Raises:
            ReadIncomplete: the time is over.
            KafkaUnreachable: it is over and no record came at all.
        """
        assert not self._reading, "one stretch at a time"
        stops = stops or {}
        left = dict(most or {})
        open_partitions = {partition for partition, start in starts.items() if start < stops.get(partition, start + 1)}
        if not open_partitions:
            return
        if not self._topics.issuperset(topic for topic, _ in open_partitions):
            # A partition whose leader is not known yet waits up to a second for a timer of librdkafka's.
            self._topics.update(self.partitions())
        self._reading = True
        self._consumer.assign([TopicPartition(*partition, starts[partition]) for partition in open_partitions])
        self._read = self._answers = 0
        try:
            while open_partitions:
                for message in self._next(len(open_partitions)):
                    self._answers += 1
                    partition = (message.topic() or "", message.partition() or 0)
                    if message.error() is not None:
                        self._ended(partition, message, open_partitions)
                    elif partition in open_partitions:
                        offset = message.offset() or 0
                        if offset >= stops.get(partition, offset + 1):
                            open_partitions.discard(partition)
                            continue
                        self._read += 1
                        if partition in left:
                            left[partition] -= 1
                            if not left[partition]:
                                open_partitions.discard(partition)
                        yield message
        finally:
            self._reading = False
            self._consumer.unassign()

    def _next(self, unfinished: int) -> list[Message]:
        # consume(n, t) waits for n records or t, whichever is first: so wait for one, then take what is there.
        first = self._consumer.poll(_WAIT_S)
        if time.monotonic() > self._deadline:
            raise self._too_late(unfinished)
        return [] if first is None else [first, *self._consumer.consume(_BATCH, 0)]

    def _too_late(self, unfinished: int) -> KafkaUnreachable | ReadIncomplete:
        if not self._answers:
            return KafkaUnreachable(self._connection.bootstrap, self._timeout_s)
        return ReadIncomplete(self._read, unfinished, self._timeout_s)

    def _ended(self, partition: Partition, message: Message, open_partitions: set[Partition]) -> None:
        error = message.error()
        assert error is not None
        if error.code() == KafkaError._PARTITION_EOF:
            # A partition that goes on growing while others are read ends again and again: what counts is the first
            # end, since the records after it were not handed out.
            if partition in open_partitions:
                open_partitions.discard(partition)
                self.ends[partition] = message.offset() or 0
        elif error.code() not in _UNREACHABLE and not error.retriable():
            topic = partition[0]
            rights = on_topic("Read", topic), on_group("Describe", self._group)
            raise refused(f"read {topic}" if topic else "read", error, self._connection, *rights)
