"""What differs between the topics that a queue declares and those that Kafka has, how bad it is, and what mends it.

Invariant: the judgement is a function of the declaration and of what was found. `broken` is what would lose data or
cannot work; whatever merely works less well is a `warning`. Every difference carries the command that mends it.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from fairlane.topics.difference import Difference
from fairlane.topics.names import DEFAULT_PARTITIONS
from fairlane.topics.topic_settings import HOP_HEADROOM_BYTES, Role, Setting, Severity, in_sync
from fairlane.topics.topology import OF_OWNERS, ONE_PARTITION, SAME_COUNT, TopicSpec, Topology

_NAMED: Final = 3
"""So many topics a command names one by one."""
SIZE: Final = "max.message.bytes"


@dataclass(frozen=True)
class FoundTopic:
    """A topic as Kafka has it.

    Attributes:
        name: the topic.
        partitions: how many.
        replication: of the partition that has the fewest copies.
        config: its effective configuration, the broker's defaults included; None if we may not read it.
        offline: partitions without a leader.
    """

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] | None = field(default_factory=dict)
    offline: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """What Kafka has of a queue.

    Attributes:
        topics: those that exist, by name: declared ones, and others whose names derive from the queue's.
        brokers: how many the cluster has.
        forbidden: topics that Kafka will not tell us of.
        bootstrap: where it was asked.
        principal: who asked, as the broker knows it; "" where only the broker knows.
    """

    topics: Mapping[str, FoundTopic]
    brokers: int = 1
    forbidden: frozenset[str] = frozenset()
    bootstrap: str = "localhost:9092"
    principal: str = ""


def lane_partitions(topology: Topology, found: Found) -> int | None:
    """How many partitions the queue's own lanes and tiers have: the highest number, since none can be taken away."""
    return max(_counts(topology, found), default=None)


def resolve(topology: Topology, found: Found) -> Topology:
    """The topology with the numbers that it leaves open as the queue and the cluster have them."""
    return topology.resolve(brokers=found.brokers, found_partitions=lane_partitions(topology, found))


def compare(topology: Topology, found: Found, *, queue_option: str = "") -> tuple[Difference, ...]:
    """Every difference, the broken ones first, otherwise in the order of the declaration.

    Args:
        topology: the declaration. The numbers that it leaves to the cluster are taken from what was found.
        found: what Kafka has.
        queue_option: how commands name the queue; `--queue NAME` by default.
    """
    wanted = resolve(topology, found)
    judge = _Judge(wanted, found, queue_option or f"--queue {topology.names.queue}")
    return tuple(sorted(judge.differences(), key=lambda difference: difference.severity != "broken"))


def _counts(topology: Topology, found: Found) -> set[int]:
    names = [spec.name for spec in topology.specs if spec.role in SAME_COUNT]
    return {found.topics[name].partitions for name in names if name in found.topics}


@dataclass(frozen=True)
class _Judge:
    wanted: Topology
    found: Found
    queue_option: str

    def _fairlane(self, verb: str, *options: str) -> str:
        return " ".join(("fairlane topics", verb, self.queue_option, *options))

    def _right(self, operation: str, topics: Collection[str]) -> str:
        """The command that gives a right to these topics; many of them are all that the queue has."""
        given = f"--add --allow-principal {shlex.quote(self.found.principal or 'User:NAME')} --operation {operation}"
        if len(topics) > _NAMED:
            return self._kafka("acls", given, f"--topic '{self.wanted.names.queue}.' --resource-pattern-type prefixed")
        return self._kafka("acls", given, *(f"--topic '{topic}'" for topic in topics))

    def _create(self) -> str:
        count = self.wanted.partitions
        return self._fairlane("create", *(() if count == DEFAULT_PARTITIONS else (f"--partitions {count}",)))

    def _kafka(self, tool: str, *options: str) -> str:
        return " ".join((f"kafka-{tool}.sh --bootstrap-server {self.found.bootstrap}", *options))

    def differences(self) -> list[Difference]:
        found: list[Difference] = []
        for spec in self.wanted.specs:
            topic = self.found.topics.get(spec.name)
            if topic is None:
                found.append(self._absent(spec))
            else:
                found += self._offline(topic)
                if spec.owned:
                    found += self._partitions(spec, topic) + self._replication(spec, topic)
                    found += [d for setting in spec.settings for d in self._setting(spec, topic, setting)]
        sizes = self._sizes()
        judged = {(difference.topic, difference.what) for difference in sizes}
        found = [difference for difference in found if (difference.topic, difference.what) not in judged]
        return [*found, *sizes, *self._undeclared(), *self._unreadable()]

    def _absent(self, spec: TopicSpec) -> Difference:
        if spec.name in self.found.forbidden:
            hidden = sorted(self.found.forbidden & {each.name for each in self.wanted.owned})
            acl = self._right("Describe", hidden if spec.owned else [spec.name])
            why = "without the right to Describe it, nobody can tell whether it exists"
            severity: Severity = "warning" if spec.role in OF_OWNERS else "broken"
            return Difference(
                severity, "forbidden", spec.name, "the topic", "visible", "hidden from this user", why, acl
            )
        if spec.owned:
            why, command = spec.why, self._create()
        else:
            why = "it is a lane of this queue, but belongs to somebody else, who makes it"
            command = self._kafka("topics", f"--create --topic '{spec.name}'")
        # A queue that an older fairlane made works without: nobody can pause or cancel then, or there are no schedules.
        severity = "warning" if spec.role == "control" or spec.role in OF_OWNERS else "broken"
        return Difference(severity, "missing", spec.name, "the topic", "there", "missing", why, command)

    def _offline(self, topic: FoundTopic) -> list[Difference]:
        if not topic.offline:
            return []
        without = f"missing for {len(topic.offline)} of {topic.partitions} partitions"
        why = "brokers are down: what is in them can be neither read nor written"
        command = self._kafka("topics", "--describe --unavailable-partitions")
        return [Difference("warning", "offline", topic.name, "a leader", "there", without, why, command)]

    def _partitions(self, spec: TopicSpec, topic: FoundTopic) -> list[Difference]:
        if spec.role == "state":
            return self._changelog(spec, topic)
        counted = spec.role in SAME_COUNT or spec.role in ONE_PARTITION
        if not counted or topic.partitions == spec.partitions:
            return []
        if topic.partitions < spec.partitions:
            why = "lanes and tiers of one queue have the same number, so that every worker gets a share of each"
            command = self._fairlane("grow", f"--partitions {spec.partitions}")
        elif spec.role in SAME_COUNT:
            why = "Kafka cannot take partitions away, so the declaration has to follow"
            counts = _counts(self.wanted, self.found)
            command = self._fairlane("check" if len(counts) == 1 else "grow", f"--partitions {max(counts)}")
        else:
            why = "its records are in one order only within one partition"
            command = self._kafka("topics", f"--delete --topic '{spec.name}'") + " && " + self._create()
        return [self._numbers(spec, "partitions", spec.partitions, topic.partitions, why, command)]

    def _changelog(self, spec: TopicSpec, topic: FoundTopic) -> list[Difference]:
        events = self.found.topics.get(self.wanted.names.events)
        if events is None or events.partitions == topic.partitions:
            return []
        why = f"what {events.name} did to an entity is kept in the same partition here, so schedules are off"
        made = f"--create --topic '{topic.name}' --partitions {events.partitions} --config cleanup.policy=compact"
        command = self._kafka("topics", f"--delete --topic '{topic.name}'") + " && " + self._kafka("topics", made)
        return [self._numbers(spec, "partitions", events.partitions, topic.partitions, why, command)]

    def _replication(self, spec: TopicSpec, topic: FoundTopic) -> list[Difference]:
        if topic.replication >= spec.replication:
            return []
        why = "fewer brokers may be lost than declared before tasks are"
        command = (
            self._fairlane("reassignment", f"--replication {spec.replication} > reassignment.json")
            + " && "
            + self._kafka("reassign-partitions", "--reassignment-json-file reassignment.json --execute")
        )
        return [self._numbers(spec, "replication", spec.replication, topic.replication, why, command)]

    @staticmethod
    def _numbers(
        spec: TopicSpec, what: Literal["partitions", "replication"], declared: int, found: int, why: str, command: str
    ) -> Difference:
        named = {"partitions": "the number of partitions", "replication": "the number of copies"}[what]
        return Difference("warning", what, spec.name, named, str(declared), str(found), why, command)

    def _setting(self, spec: TopicSpec, topic: FoundTopic, setting: Setting) -> list[Difference]:
        value = None if topic.config is None else topic.config.get(setting.name)
        if value is None:
            return []
        severity, why = _judged(setting, value), setting.why
        if setting.name == "min.insync.replicas":
            # More than there are copies would stop every write, so it goes by the copies that there are.
            setting = in_sync(topic.replication)
            severity = _judged(setting, value)
            if value.isdecimal() and int(value) > topic.replication:
                severity, why = "broken", f"there are only {topic.replication} copies, so Kafka refuses every record"
        if severity is None:
            return []
        return [self._config(severity, spec.name, setting.name, setting.value, value, why)]

    def _config(self, severity: Severity, topic: str, name: str, declared: str, value: str, why: str) -> Difference:
        return Difference(severity, "config", topic, name, declared, value or '""', why, self._fairlane("mend"))

    def _sizes(self) -> list[Difference]:
        """A lane that takes more than the tiers and the DLQ do has tasks that can be neither retried nor buried."""
        differences: dict[str, Difference] = {}
        # A foreign lane may allow more than anybody sends, so it only warns; an own one has the last word.
        rules: tuple[tuple[Role, Severity], ...] = (("foreign lane", "warning"), ("lane", "broken"))
        for role, severity in rules:
            lane, largest = max(self._sized(role), key=lambda item: item[1], default=("", 0))
            for hop, size in self._sized("tier", "dlq"):
                if lane and size < largest + HOP_HEADROOM_BYTES:
                    why = f"{lane} takes {largest}, and a retry or a death adds up to {HOP_HEADROOM_BYTES} of headers"
                    size_wanted = str(largest + HOP_HEADROOM_BYTES)
                    differences[hop] = self._config(severity, hop, SIZE, size_wanted, str(size), why)
        return list(differences.values())

    def _sized(self, *roles: str) -> list[tuple[str, int]]:
        sizes = []
        for spec in self.wanted.specs:
            topic = self.found.topics.get(spec.name)
            if spec.role in roles and topic is not None and topic.config and topic.config.get(SIZE, "").isdecimal():
                sizes.append((spec.name, int(topic.config[SIZE])))
        return sizes

    def _undeclared(self) -> list[Difference]:
        declared = {spec.name for spec in self.wanted.specs}
        why = "its name is one of the queue's, and with these settings nobody reads what is in it"
        return [
            Difference(
                "warning",
                "undeclared",
                name,
                "the topic",
                "a lane or a tier",
                "no lane or tier of the queue",
                why,
                self._fairlane("describe"),
            )
            for name in sorted(set(self.found.topics) - declared)
        ]

    def _unreadable(self) -> list[Difference]:
        hidden = [s.name for s in self.wanted.owned if s.name in self.found.topics and not self._readable(s.name)]
        if not hidden:
            return []
        command = self._right("DescribeConfigs", hidden)
        why = f"without the right to DescribeConfigs of {len(hidden)} topics, nobody can tell whether they lose tasks"
        found = "hidden from us"
        return [Difference("warning", "unreadable", hidden[0], "the configuration", "readable", found, why, command)]

    def _readable(self, name: str) -> bool:
        return self.found.topics[name].config is not None


def _judged(setting: Setting, value: str) -> Severity | None:
    """How bad a value is; None if it counts as declared."""
    if value == setting.value:
        return None
    if setting.rule == "policy":
        return _judged_policy(setting, value)
    if setting.rule in ("at least", "at most"):
        declared, found = _number(setting.value), _number(value)
        if found is not None and declared is not None:
            fits = found >= declared if setting.rule == "at least" else found <= declared
            return None if fits else setting.severity
    return setting.severity


def _judged_policy(setting: Setting, value: str) -> Severity | None:
    """A policy that deletes what the declared one keeps is as bad as the setting says; less deletion is a warning."""
    declared, found = _policies(setting.value), _policies(value)
    if found - declared:
        return setting.severity
    return "warning" if declared - found else None


def _policies(value: str) -> frozenset[str]:
    return frozenset(policy.strip() for policy in value.split(",") if policy.strip())


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return float("inf") if number == -1 else number
