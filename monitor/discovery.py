"""Finds the lanes and tiers that a queue really has, so that watching it needs no configuration.

Invariant: a topic that is named like a lane or tier of the queue is one, and so is a topic that its workers read: a
foreign lane is found by their heartbeats.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from fairlane.topics.names import DEFAULT_WEIGHTS, Lane, QueueNames, Tier

_UNKNOWN_TYPE = "unknown"

FOREIGN_LEVEL = 0
"""The level that a foreign lane is shown with: only the workers' settings know the one that it has."""


def lanes_of(names: QueueNames, topics: Collection[str], read_by_workers: Collection[str] = ()) -> tuple[Lane, ...]:
    """The lanes among the topics, the most urgent first and foreign ones last.

    Args:
        names: of the queue.
        topics: all topics of the cluster.
        read_by_workers: those that the queue's workers hold partitions of.
    """
    own = re.compile(re.escape(names.queue) + r"\.p([0-9]{1,9})")
    levels = sorted((int(match[1]) for topic in topics if (match := own.fullmatch(topic))), reverse=True)
    lanes = [Lane(names.lane(level), level, DEFAULT_WEIGHTS.get(level, 1)) for level in levels]
    known = {lane.topic for lane in lanes} | {names.tier(tier) for tier in tiers_of(names, topics)}
    foreign = sorted(topic for topic in read_by_workers if topic in topics and topic not in known)
    return (*lanes, *(Lane(topic, FOREIGN_LEVEL, 1) for topic in foreign))


def tiers_of(names: QueueNames, topics: Collection[str]) -> tuple[Tier, ...]:
    """The tiers among the topics, the shortest first."""
    own = re.compile(re.escape(names.queue) + r"\.retry-([1-9][0-9]*[smhd])")
    return tuple(sorted(Tier.parse(match[1]) for topic in topics if (match := own.fullmatch(topic))))


def default_type_of(lane: Lane | None) -> str | None:
    """The type of a lane's records that name none; only the workers' settings know that of a lane that was found."""
    if lane is None or lane.level != FOREIGN_LEVEL:
        return lane.default_type if lane else None
    return lane.default_type or _UNKNOWN_TYPE
