"""Every topic of a queue, declared once as data: what it is called, how it is made, and why.

Invariant: a topic is made, checked, documented and deleted from this declaration and from nowhere else. A lane whose
topic the queue does not own is in the declaration only so that its existence is checked: it is never made or altered.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Final

from fairlane.topics.errors import UsageError
from fairlane.topics.names import DEFAULT_PARTITIONS, DEFAULT_TIERS, Lane, QueueNames, Tier
from fairlane.topics.topic_settings import DEFAULT_MAX_MESSAGE_BYTES, Role, Setting, settings_of

SAME_COUNT: Final = frozenset({"lane", "tier"})
"""Roles whose topics have one number of partitions: the range assignor then gives a worker the same ones of each."""

ONE_PARTITION: Final = frozenset({"control", "audit", "workers"})
"""Roles whose topics have one partition."""

OF_OWNERS: Final = frozenset({"events", "state"})
"""Roles whose topics have one number of partitions for life: an entity stays in the partition of its key. A queue that
was made before them works, without schedules."""

MAX_REPLICATION: Final = 3
"""How many copies a queue has where the cluster has the brokers for it."""

_WHY: Final[Mapping[Role, str]] = MappingProxyType(
    {
        "lane": "tasks of one priority that are due, until a worker settles them",
        "foreign lane": "records of somebody else's that are tasks here; never made, altered or trimmed by fairlane",
        "tier": "tasks that wait, all equally long, so that the first in is the first due",
        "dlq": "dead letters: the record untouched, plus why",
        "status": "the newest event of every task, with its result",
        "replies": "results for producers that wait; each reads one partition",
        "control": "what operators ask of all workers, in one order, so one partition",
        "audit": "who did what, in one order, so one partition",
        "events": "what happens to schedules; whoever holds a partition owns those in it",
        "state": "the newest state of each schedule, in the same partition as its events; its owner's changelog",
        "workers": "a heartbeat a second from every worker; one partition is enough",
    }
)


@dataclass(frozen=True)
class TopicSpec:
    """One topic as declared.

    Attributes:
        name: the topic.
        role: what it is to the queue.
        partitions: with how many it is made; 0 for a foreign lane.
        replication: how many brokers have a copy; 0 for a foreign lane.
        settings: its configuration, each value with its reason.
        why: what it is for, one line.
    """

    name: str
    role: Role
    partitions: int
    replication: int
    settings: tuple[Setting, ...]
    why: str

    @property
    def owned(self) -> bool:
        """Whether the queue makes, alters and deletes it."""
        return self.role != "foreign lane"

    @property
    def config(self) -> Mapping[str, str]:
        """What it is made with, by Kafka's names."""
        return {setting.name: setting.value for setting in self.settings}

    @property
    def essential_config(self) -> Mapping[str, str]:
        """The part of `config` that a queue is not made without."""
        return {setting.name: setting.value for setting in self.settings if setting.essential}


@dataclass(frozen=True)
class Topology:
    """The topics of a queue.

    Attributes:
        names: the queue's names.
        lanes: its lanes, own and foreign.
        tiers: its fixed delays, the shortest first.
        partitions: of every lane and tier; None takes the number that the queue was made with, 12 for a new one.
        replication: copies of every topic; None takes 3, or the number of brokers if there are fewer.
        max_message_bytes: the largest batch that lanes take.
    """

    names: QueueNames
    lanes: tuple[Lane, ...]
    tiers: tuple[Tier, ...]
    partitions: int | None = None
    replication: int | None = None
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES

    def __post_init__(self) -> None:
        for what, count in (("partitions", self.partitions), ("replication", self.replication)):
            if count is not None and count < 1:
                raise UsageError(f"{what} is {count}", "It is a whole number from 1 on")
        twice = [name for name, count in Counter(spec.name for spec in self.specs).items() if count > 1]
        if twice:
            raise UsageError(f"topic {twice[0]!r} is declared twice", "Each lane and each tier has a topic of its own")

    @classmethod
    def of(
        cls,
        queue: QueueNames,
        *,
        lanes: Iterable[Lane] | None = None,
        tiers: Iterable[Tier] = DEFAULT_TIERS,
        partitions: int | None = None,
        replication: int | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> Topology:
        """The topology of a queue; see the attributes for the arguments. Lanes are the five own ones by default.

        Raises:
            UsageError: a topic would be declared twice, or a number is not positive.
        """
        chosen = queue.default_lanes() if lanes is None else tuple(lanes)
        return cls(queue, chosen, tuple(sorted(tiers)), partitions, replication, max_message_bytes)

    def resolve(self, *, brokers: int, found_partitions: int | None = None) -> Topology:
        """The same with the numbers that it leaves to the cluster filled in.

        Args:
            brokers: how many the cluster has.
            found_partitions: how many the queue's lanes have already; None if it has no lanes.
        """
        return replace(
            self,
            partitions=self.partitions or found_partitions or DEFAULT_PARTITIONS,
            replication=self.replication or max(1, min(MAX_REPLICATION, brokers)),
        )

    @cached_property
    def specs(self) -> tuple[TopicSpec, ...]:
        """Every topic, lanes first, in the order in which a person would list them."""
        names = self.names
        own: list[tuple[Role, str]] = [
            ("lane" if names.owns(lane) else "foreign lane", lane.topic)
            for lane in sorted(self.lanes, key=lambda lane: -lane.level)
        ]
        own += [("tier", names.tier(tier)) for tier in self.tiers]
        own += [("dlq", names.dlq), ("status", names.status), ("replies", names.replies)]
        own += [("control", names.control), ("audit", names.audit)]
        own += [("events", names.events), ("state", names.state), ("workers", names.workers)]
        return tuple(self._spec(role, name) for role, name in own)

    def _spec(self, role: Role, name: str) -> TopicSpec:
        if role == "foreign lane":
            return TopicSpec(name, role, 0, 0, (), _WHY[role])
        replication = self.replication or 1
        partitions = 1 if role in ONE_PARTITION else self.partitions or DEFAULT_PARTITIONS
        settings = settings_of(role, replication, self.max_message_bytes)
        return TopicSpec(name, role, partitions, replication, settings, _WHY[role])

    @property
    def owned(self) -> tuple[TopicSpec, ...]:
        """The topics that the queue makes."""
        return tuple(spec for spec in self.specs if spec.owned)

    @property
    def total_partitions(self) -> int:
        """Partitions of all topics that the queue makes."""
        return sum(spec.partitions for spec in self.owned)

    @property
    def total_replicas(self) -> int:
        """Copies of partitions that the brokers keep for the queue, in sum."""
        return sum(spec.partitions * spec.replication for spec in self.owned)


def topics_of_queue(queue: QueueNames, topics: Iterable[str]) -> tuple[str, ...]:
    """Those of `topics` whose names derive from the queue's, whatever lanes and tiers it has now."""
    fixed = {queue.dlq, queue.status, queue.replies, queue.control, queue.audit, queue.workers}
    fixed |= {queue.events, queue.state}
    varying = re.compile(re.escape(queue.queue) + r"\.(p\d+|retry-[1-9]\d*[smhd])")
    return tuple(sorted(topic for topic in topics if topic in fixed or varying.fullmatch(topic)))
