"""Where in a partition a point in time is, and where it ends: asked on a connection of its own.

Invariant: offsets are those of read_committed readers. A consumer's own questions wait behind the fetch that it has
out, since a broker answers one connection in order; these do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # it is in their documentation

from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.connection import Connection

Partition = tuple[str, int]


class Offsets:
    """Asks Kafka for offsets.

    Every method raises KafkaException if Kafka does not answer in time, or says no.

    Args:
        connection: how to talk to Kafka.
        timeout_s: how long an answer may take, seconds.
    """

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self.raw = AdminClient(connection.admin(), logger=librdkafka_log)
        self._timeout_s = timeout_s

    def ends(self, partitions: list[Partition]) -> dict[Partition, int]:
        """The end of each partition."""
        return self._ask(dict.fromkeys(partitions, OffsetSpec.latest()))  # type: ignore[no-untyped-call]

    def starts(self, since_ms: Mapping[Partition, int], ends: Mapping[Partition, int]) -> dict[Partition, int]:
        """The first offset of each partition whose record is not older than this, Unix ms; 0 is all that there is.

        Args:
            since_ms: by partition.
            ends: asked for before this: where there is no such record yet, it will come after that end.
        """
        specs = {
            partition: OffsetSpec.for_timestamp(moment_ms) if moment_ms else OffsetSpec.earliest()  # type: ignore[no-untyped-call]
            for partition, moment_ms in since_ms.items()
        }
        found = self._ask(specs)
        return {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}

    def _ask(self, specs: Mapping[Partition, Any]) -> dict[Partition, int]:
        if not specs:
            return {}
        asked = {TopicPartition(*partition): spec for partition, spec in specs.items()}
        answers = self.raw.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=self._timeout_s
        )
        found = {}
        for place, answer in answers.items():
            # The client's own timeout, which says more, comes first.
            offset = answer.result(self._timeout_s + 1).offset
            found[place.topic, place.partition] = offset
        return found
