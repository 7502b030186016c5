"""Asks Kafka how far its partitions have come.

Invariant: one request a question for all partitions, whatever their number; nothing is read from the topics.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from typing import Final, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # it is in their documentation

from fairlane.monitor.scan import Partition, reaching
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.connection import Connection
from fairlane.topics.denial import is_denial, on_topic
from fairlane.topics.names import QueueNames

_Answer = TypeVar("_Answer")

# A leader that has just moved, a topic that has just been made. (The errors of an AdminClient never say
# `retriable()`.)
_PASSING: Final = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
_RETRY_S: Final = 0.05
_VISIBLE_S: Final = 0.01
_GRACE_S: Final = 1.0
"""The client's own timeout says more than one of ours would: it goes first."""


class Offsets:
    """An admin client that answers questions about offsets.

    Args:
        connection: to the cluster.
        timeout_s: how long one question may take, seconds.
    """

    def __init__(self, connection: Connection, *, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._admin = AdminClient(connection.admin(), logger=librdkafka_log)

    def partitions(self) -> dict[str, int]:
        """All topics of the cluster and how many partitions each has.

        Raises:
            KafkaUnreachable: no broker answered.
        """
        with reaching(self._connection, self._timeout_s, "list the topics"):
            topics = self._admin.list_topics(timeout=self._timeout_s).topics
        return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}

    def topics(self, names: QueueNames) -> dict[str, int]:
        """As `partitions`, once it is sure that nothing of the queue is hidden that every look at it needs.

        Kafka leaves out of a list what may not be seen, which would look like a queue that does not exist.

        Raises:
            RightMissing: a topic of the queue is hidden from us.
            KafkaUnreachable: no broker answered.
        """
        found = self.partitions()
        self.require({names.status, names.workers, names.dlq, names.audit} - found.keys())
        return found

    def require(self, hidden: Collection[str]) -> None:
        """Raise RightMissing if one of these topics, which are in no list, is not ours to read, if it exists."""
        for topic in sorted(hidden):
            asked = f"read {topic}", on_topic("Read", topic)
            with reaching(self._connection, self._timeout_s, *asked):
                error = self._admin.list_topics(topic, timeout=self._timeout_s).topics[topic].error
                if error is not None and is_denial(error):
                    raise KafkaException(error)

    def starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """First offset of each partition that is still there."""
        return self._listed(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """End of each partition as read_committed readers see it: nothing of an open transaction counts."""
        return self._listed(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def written(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """End of each partition with what open transactions wrote, and what a commit has not made visible yet."""
        return self._listed(partitions, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)  # type: ignore[no-untyped-call]

    def await_visible(self, ends: Mapping[Partition, int], timeout_s: float) -> bool:
        """Wait until read_committed readers can read up to these ends, at most `timeout_s` seconds.

        A commit answers before its markers are written: what it wrote is visible a few milliseconds later.

        Returns:
            Whether they can.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            visible = self.ends(ends)
            if all(visible[partition] >= end for partition, end in ends.items()):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_VISIBLE_S)

    def since(self, partitions: Iterable[Partition], at_ms: int) -> dict[Partition, int]:
        """Offset of the first record at or after `at_ms` (Unix ms); partitions without one are left out."""
        found = self._listed(partitions, OffsetSpec.for_timestamp(max(0, at_ms)))
        return {partition: offset for partition, offset in found.items() if offset >= 0}

    def _listed(
        self,
        partitions: Iterable[Partition],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    ) -> dict[Partition, int]:
        found: dict[Partition, int] = {}
        open_partitions = set(partitions)
        deadline = time.monotonic() + self._timeout_s
        while open_partitions:
            asked = self._admin.list_offsets(
                {TopicPartition(*partition): spec for partition in open_partitions},
                isolation_level=isolation,
                request_timeout=self._timeout_s,
            )
            answers = {
                (to.topic, to.partition): self._answer(to.topic, future, deadline) for to, future in asked.items()
            }
            found |= {partition: answer.offset for partition, answer in answers.items() if answer is not None}
            open_partitions -= found.keys()
            if open_partitions:
                time.sleep(_RETRY_S)
        return found

    def _answer(self, topic: str, future: Future[_Answer], deadline: float) -> _Answer | None:
        """What was answered; None where it is worth asking again."""
        with reaching(self._connection, self._timeout_s, f"list offsets of {topic}", on_topic("Describe", topic)):
            try:
                return future.result(self._timeout_s + _GRACE_S)
            except KafkaException as error:
                if error.args[0].code() in _PASSING and time.monotonic() < deadline:
                    return None
                raise
