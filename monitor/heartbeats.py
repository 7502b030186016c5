"""Reads what the workers of a queue say of themselves now.

Invariant: of each worker the newest heartbeat counts. While workers beat, only the last seconds are read, whatever the
topic holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fairlane.monitor import discovery
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.scan import BEGINNING, Partition, Scanner
from fairlane.topics.clock import now_ms as clock_ms
from fairlane.topics.events import HEARTBEAT_GONE_MS, Heartbeat, decode_heartbeat
from fairlane.topics.names import Lane, QueueNames


def newest_beats(
    scanner: Scanner, offsets: Offsets, names: QueueNames, topics: Mapping[str, int], now_ms: int
) -> tuple[Heartbeat, ...]:
    """The newest heartbeat of each worker; those of workers that are gone too where none is alive.

    Args:
        scanner: reads them.
        offsets: asks where to begin.
        names: of the queue.
        topics: all topics of the cluster and their partitions.
        now_ms: Unix ms.
    """
    partitions = [(names.workers, number) for number in range(topics.get(names.workers, 0))]
    recent = _read(scanner, offsets.since(partitions, now_ms - 2 * HEARTBEAT_GONE_MS))
    return recent or _read(scanner, dict.fromkeys(partitions, BEGINNING))


def lanes_in_use(scanner: Scanner, offsets: Offsets, names: QueueNames, topics: Mapping[str, int]) -> tuple[Lane, ...]:
    """The lanes that a queue has, and the foreign ones that its workers read.

    Args: as of `newest_beats`.
    """
    beats = newest_beats(scanner, offsets, names, topics, clock_ms())
    return discovery.lanes_of(names, topics, topics_read(beats))


def _read(scanner: Scanner, starts: Mapping[Partition, int]) -> tuple[Heartbeat, ...]:
    newest: dict[str, Heartbeat] = {}
    for message in scanner.read(starts):
        beat = decode_heartbeat(message.value() or b"")
        if beat is not None:
            newest[beat.worker] = beat
    return tuple(newest.values())


def topics_read(beats: Iterable[Heartbeat]) -> frozenset[str]:
    """The topics that the workers hold partitions of: the lanes and tiers of the queue, foreign lanes too."""
    return frozenset(partition.rpartition("/")[0] for beat in beats for partition in beat.partitions)
