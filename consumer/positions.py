"""Where reading a partition begins: what its last owner committed, checked against what the log still has.

Invariant: an error is never answered with a guess. Kafka is asked until it answers; offsets that the log does not have
are said aloud, never skipped in silence.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.delivery import Partition
from fairlane.topics.denial import Denials, on_group, on_topic
from fairlane.topics.offset_map import OffsetMap, check_version, decode
from fairlane.topics.trouble import Trouble

_logger = logging.getLogger("fairlane.reader")

TIMEOUT_S: Final = 5.0
PATIENCE_S: Final = 15.0
BACKOFF_S: Final = 0.2
EARLIEST: Final = -2
LATEST: Final = -1


class Position(NamedTuple):
    """Where a partition's new owner begins.

    Attributes:
        start: the first offset to read.
        end: the end of the log now; what lies below may have been started by the last owner.
        restored: the offset map of the last owner, if there was one.
    """

    start: int
    end: int
    restored: OffsetMap | None


def as_before(position: Position, before: Position) -> Position:
    """Where the same owner begins anew: nobody died meanwhile, so what is suspect is what was, and lost what it had.

    Args:
        position: where it begins now; its map is the owner's own.
        before: where it began the last time.
    """
    if position.restored is None:
        return position
    if before.restored is None or before.restored.clean:
        return position._replace(restored=replace(position.restored, clean=True))
    restored = replace(position.restored, clean=False, losses=before.restored.losses)
    return position._replace(end=before.end, restored=restored)


class Known(NamedTuple):
    """What Kafka says of a partition: the log's bounds, and the group's committed offset (negative: none)."""

    low: int
    end: int
    committed: int
    metadata: str


class PositionsUnknown(Exception):
    """Kafka has not said where to begin, and the worker stops, or this member of the group gets no answer any more."""


class Positions:
    """Asks Kafka; used on the consumer's own thread.

    Args:
        config: of the worker.
        consumer: the one that will read.
    """

    def __init__(self, config: WorkerConfig, consumer: Consumer) -> None:
        self._lanes = {lane.topic: lane for lane in config.lanes}
        self._queue = config.queue
        self._group = config.names.group
        self._denials = Denials(config.connection, _logger)
        self._consumer = consumer

    def find(
        self, partitions: Iterable[Partition], stopping: Callable[[], bool], *, patience_s: float = PATIENCE_S
    ) -> Mapping[Partition, Position]:
        """Where each partition begins.

        Args:
            partitions: that were assigned.
            stopping: whether nobody waits for the answer any more.
            patience_s: how long to ask, seconds. A member that the group has dropped meanwhile hears of it at its next
                poll, and of its offsets never.

        Raises:
            PositionsUnknown: Kafka did not answer in time, or `stopping` said so before.
            MapTooNew: a newer fairlane committed a map that this one cannot read.
        """
        asked = [TopicPartition(*partition) for partition in partitions]
        if not asked:
            return {}
        ends_at = time.monotonic() + patience_s
        trouble = Trouble()
        while True:
            try:
                asked_for = self._ask(asked)
                self._tell_uncommitted(asked_for)
                return {partition: self._decide(partition, known) for partition, known in asked_for.items()}
            except KafkaException as error:
                code = error.args[0].name()
                if stopping() or time.monotonic() >= ends_at:
                    raise PositionsUnknown(f"committed offsets are not known: {code}") from error
                rights = on_group("Read", self._group), on_topic("Read", asked[0].topic)
                is_denied = self._denials.tell(error.args[0], "say where to begin", *rights)
                if not is_denied and trouble.tell(code, time.monotonic()):
                    _logger.warning("committed offsets are not known yet (%s); asking again", code)
                time.sleep(BACKOFF_S)

    def _ask(self, asked: list[TopicPartition]) -> dict[Partition, Known]:
        committed = self._consumer.committed(asked, timeout=TIMEOUT_S)
        low = self._offsets(asked, EARLIEST)
        end = self._offsets(asked, LATEST)
        known = {}
        for each in committed:
            if each.error is not None:
                raise KafkaException(each.error)
            key = (each.topic, each.partition)
            known[key] = Known(low[key], end[key], each.offset, each.metadata or "")
        return known

    def _tell_uncommitted(self, found: Mapping[Partition, Known]) -> None:
        """Say where records wait and nobody ever committed; once, not once a partition."""
        history = [f"{topic}/{number}" for (topic, number), known in found.items() if known.committed < 0 < known.end]
        if history:
            _logger.warning(
                "the consumer group has no committed offsets in %d of %d partitions that have had records (%s, …): "
                "right for a new queue; on an old one they expired (offsets.retention.minutes) and tasks may run again",
                len(history),
                len(found),
                history[0],
            )

    def _offsets(self, asked: list[TopicPartition], which: int) -> dict[Partition, int]:
        # ListOffsets takes the earliest and the latest as special timestamps (KIP-79); one request for all partitions.
        wanted = [TopicPartition(each.topic, each.partition, which) for each in asked]
        found = {}
        for each in self._consumer.offsets_for_times(wanted, timeout=TIMEOUT_S):
            if each.error is not None:
                raise KafkaException(each.error)
            found[(each.topic, each.partition)] = each.offset
        return found

    def _decide(self, partition: Partition, known: Known) -> Position:
        topic = partition[0]
        check_version(f"{topic}/{partition[1]}", known.metadata)
        if known.committed < 0:
            lane = self._lanes.get(topic)
            start = known.end if lane is not None and lane.start == "latest" else known.low
            return Position(start, known.end, None)
        restored = decode(known.committed, known.metadata)
        if restored is None and known.metadata:
            _logger.warning("the commit metadata of %s/%d is not fairlane's, or damaged; ignored", *partition)
        if known.committed > known.end:
            # The topic was made anew, or its log was cut: what the map calls finished is another record now.
            _logger.error(
                "%s/%d ends at %d, before the committed offset %d: reading what is there from %d",
                *partition,
                known.end,
                known.committed,
                known.low,
            )
            return Position(known.low, known.end, None)
        if restored is not None and not restored.within(known.end):
            _logger.error("the offset map of %s/%d speaks of offsets past the log's end; ignored", *partition)
            restored = None
        if known.committed < known.low:
            _logger.error(
                "%s/%d begins at %d, after the committed offset %d: records were deleted before they were read. Check "
                "its retention with `fairlane topics check --queue %s`",
                *partition,
                known.low,
                known.committed,
                self._queue,
            )
            return Position(known.low, known.end, _from(restored, known.low))
        return Position(known.committed, known.end, restored)


def _from(restored: OffsetMap | None, low: int) -> OffsetMap | None:
    """What the map says of offsets from `low` on, and of its writer."""
    if restored is None:
        return None
    return OffsetMap(
        watermark=low,
        highest_finished=max(restored.highest_finished, low - 1),
        unfinished=tuple(offset for offset in restored.unfinished if offset >= low),
        losses={offset: count for offset, count in restored.losses.items() if offset >= low},
        clean=restored.clean,
    )
