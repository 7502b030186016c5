"""Ask Kafka for the topics of a queue, and make, grow, mend and delete them.

Invariant: it does what the declaration says and decides nothing. Making twice is making once. A topic that the queue
does not own is never touched. No call takes longer than it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are in its documentation
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from fairlane.topics.admin_client import Admin, refused
from fairlane.topics.connection import Connection
from fairlane.topics.deadline import Deadline
from fairlane.topics.errors import KafkaUnreachable, UsageError
from fairlane.topics.names import QueueNames
from fairlane.topics.plan import Found, FoundTopic, resolve
from fairlane.topics.topology import SAME_COUNT, TopicSpec, Topology, topics_of_queue

DEFAULT_TIMEOUT_S: Final = 10.0

_FIRST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_END: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_UNKNOWN: Final = "UNKNOWN_TOPIC_OR_PART"
# A topic that was just made, a leader that was just chosen: the next answer may be another.
_NOT_YET: Final = frozenset(
    {
        _UNKNOWN,
        "_UNKNOWN_PARTITION",
        "FENCED_LEADER_EPOCH",
        "LEADER_NOT_AVAILABLE",
        "NOT_LEADER_FOR_PARTITION",
        "OFFSET_NOT_AVAILABLE",
        "UNKNOWN_LEADER_EPOCH",
    }
)
_BAD_SETTING: Final = frozenset({"INVALID_CONFIG", "POLICY_VIOLATION"})


@dataclass(frozen=True)
class Creation:
    """What `create` came to.

    Attributes:
        topology: the declaration with the numbers that were chosen.
        brokers: how many the cluster has.
        made: topics that were not there before.
        there: topics that were there, and were left as they are.
        without: settings that are not essential and that the cluster refused, by the topic made without them.
        missing: foreign lanes that do not exist; somebody else makes them.
    """

    topology: Topology
    brokers: int
    made: tuple[str, ...]
    there: tuple[str, ...]
    without: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...]


class TopicAdmin:
    """The topics of queues on one Kafka.

    Every method raises KafkaUnreachable if no answer came in time, and KafkaRefused if the login failed or Kafka said
    no to what was asked.

    Args:
        connection: where Kafka is.
        timeout_s: how long each method may take, seconds.

    Raises:
        UsageError: librdkafka does not accept the properties of the connection.
    """

    def __init__(self, connection: Connection, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._admin = Admin(connection)
        self._client = self._admin.client
        self._timeout_s = timeout_s

    def brokers(self) -> int:
        """How many brokers the cluster has now."""
        return self._brokers(Deadline(self._timeout_s))

    def find(self, topology: Topology) -> Found:
        """What Kafka has of the queue: its declared topics and any others whose names derive from its name.

        Needs the right to Describe the topics, and DescribeConfigs for their configuration (else `config` is None).
        """
        return self._find(topology, Deadline(self._timeout_s))

    def create(self, topology: Topology) -> Creation:
        """Make the topics that are not there, and wait until the brokers that lead them know them.

        Raises:
            UsageError: the cluster has fewer brokers than there are to be copies.
        """
        deadline = Deadline(self._timeout_s)
        found = self._find(topology, deadline)
        wanted = resolve(topology, found)
        if wanted.replication is not None and wanted.replication > found.brokers:
            raise UsageError(
                f"{wanted.replication} copies need as many brokers, and the cluster has {found.brokers}",
                f"Start more brokers, or say --replication {found.brokers}",
            )
        new = {spec.name: spec for spec in wanted.owned if spec.name not in found.topics}
        without = self._make(new, deadline)
        self._await_partitions({name: spec.partitions for name, spec in new.items()}, deadline)
        return Creation(
            topology=wanted,
            brokers=found.brokers,
            made=tuple(new),
            there=tuple(spec.name for spec in wanted.owned if spec.name not in new),
            without=without,
            missing=tuple(spec.name for spec in wanted.specs if not spec.owned and spec.name not in found.topics),
        )

    def grow(self, topology: Topology, partitions: int) -> Mapping[str, int]:
        """Give every own lane and tier that has fewer this many partitions; workers may run meanwhile.

        Returns:
            The number that each grown topic had before.

        Raises:
            UsageError: one has more already; Kafka cannot take partitions away.
        """
        deadline = Deadline(self._timeout_s)
        found = self._find(topology, deadline)
        have = {
            spec.name: found.topics[spec.name].partitions
            for spec in topology.specs
            if spec.role in SAME_COUNT and spec.name in found.topics
        }
        most = max(have.values(), default=0)
        if most > partitions:
            raise UsageError(
                f"there are {most} partitions already, and Kafka cannot take any away", f"Say --partitions {most}"
            )
        fewer = {name: count for name, count in have.items() if count < partitions}
        requests = [NewPartitions(name, partitions) for name in fewer]
        if requests:
            futures = self._client.create_partitions(requests, request_timeout=self._admin.patience_s(deadline))
            for name, error in self._admin.ask("add partitions", futures, deadline).errors.items():
                raise refused(f"add partitions to {name}", error)
            self._await_partitions(dict.fromkeys(fewer, partitions), deadline)
        return fewer

    def configure(self, topic: str, config: Mapping[str, str]) -> None:
        """Set these settings of a topic, and leave its others as they are."""
        deadline = Deadline(self._timeout_s)
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        futures = self._client.incremental_alter_configs([resource], request_timeout=self._admin.patience_s(deadline))
        for error in self._admin.ask(f"configure {topic}", futures, deadline).errors.values():
            raise refused(f"configure {topic}", error)

    def delete(self, queue: QueueNames) -> tuple[str, ...]:
        """Delete every topic whose name derives from the queue's, and its consumer group, and wait until they are gone.

        Returns:
            The topics that were deleted.
        """
        deadline = Deadline(self._timeout_s)
        topics = self.topics_of(queue)
        if topics:
            futures = self._client.delete_topics(list(topics), request_timeout=self._admin.patience_s(deadline))
            for name, error in self._admin.ask("delete topics", futures, deadline).errors.items():
                if error.name() != _UNKNOWN:
                    raise refused(f"delete topic {name}", error)
            if not deadline.poll(lambda: not set(topics) & set(self._admin.metadata(deadline).topics)):
                raise KafkaUnreachable(self._admin.bootstrap, deadline.timeout_s, "the topics are still listed")
        futures = self._client.delete_consumer_groups([queue.group], request_timeout=self._admin.patience_s(deadline))
        # A group that is not there, still has members or is not ours to delete keeps no topic alive.
        self._admin.ask("delete the consumer group", futures, deadline)
        return topics

    def topics_of(self, queue: QueueNames) -> tuple[str, ...]:
        """Every topic there is whose name derives from the queue's, declared or not."""
        return topics_of_queue(queue, self._admin.metadata(Deadline(self._timeout_s)).topics)

    def workers(self, queue: QueueNames) -> int:
        """How many members the queue's consumer group has; 0 also if we may not know."""
        deadline = Deadline(self._timeout_s)
        futures = self._client.describe_consumer_groups([queue.group], request_timeout=self._admin.patience_s(deadline))
        answers = self._admin.ask("describe the consumer group", futures, deadline)
        return sum(len(group.members) for group in answers.values())

    def records(self, partitions: Mapping[str, int]) -> Mapping[str, int]:
        """About how many records each topic has: offsets between first and end, so compaction and markers count too.

        Args:
            partitions: how many partitions each topic has.
        """
        deadline = Deadline(self._timeout_s)
        firsts = self._offsets(partitions, _FIRST, deadline)
        ends = self._offsets(partitions, _END, deadline)
        counts = dict.fromkeys(partitions, 0)
        for place, end in ends.items():
            counts[place[0]] += end - firsts.get(place, end)
        return counts

    def replicas(self, topology: Topology) -> tuple[Mapping[str, Mapping[int, Sequence[int]]], Sequence[int]]:
        """The brokers that have a copy of each partition of the queue's own topics, and all brokers there are."""
        metadata = self._admin.metadata(Deadline(self._timeout_s))
        copies = {
            spec.name: {number: list(partition.replicas) for number, partition in topic.partitions.items()}
            for spec in topology.owned
            if (topic := metadata.topics.get(spec.name)) is not None
        }
        return copies, sorted(metadata.brokers)

    # What the methods above are made of; all share the deadline of their caller.

    def _brokers(self, deadline: Deadline) -> int:
        future = self._client.describe_cluster(request_timeout=self._admin.patience_s(deadline))
        answers = self._admin.ask("describe the cluster", {"cluster": future}, deadline)
        for error in answers.errors.values():
            raise refused("describe the cluster", error)
        return len(answers["cluster"].nodes or ())

    def _find(self, topology: Topology, deadline: Deadline) -> Found:
        brokers = self._brokers(deadline)
        everything = self._admin.metadata(deadline).topics
        declared = {spec.name for spec in topology.specs}
        present = sorted((declared & set(everything)) | set(topics_of_queue(topology.names, everything)))
        configs = self._configs(present, deadline)
        topics = {name: _found(name, everything[name].partitions, configs[name]) for name in present if name in configs}
        return Found(topics, brokers, self._forbidden(declared - set(topics), deadline), self._admin.bootstrap)

    def _configs(self, topics: Iterable[str], deadline: Deadline) -> dict[str, Mapping[str, str] | None]:
        """Effective configuration by topic, None if we may not read it; a topic that is gone is left out."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        if not resources:
            return {}
        futures = self._client.describe_configs(resources, request_timeout=self._admin.patience_s(deadline))
        answers = self._admin.ask("describe configurations", futures, deadline)
        configs: dict[str, Mapping[str, str] | None] = {
            resource.name: {entry.name: "" if entry.value is None else str(entry.value) for entry in entries.values()}
            for resource, entries in answers.items()
        }
        for resource, error in answers.errors.items():
            if error.name() not in _NOT_YET:
                configs[resource.name] = None
        return configs

    def _forbidden(self, topics: Iterable[str], deadline: Deadline) -> frozenset[str]:
        names = sorted(topics)
        if not names:
            return frozenset()
        futures = self._client.describe_topics(TopicCollection(names), request_timeout=self._admin.patience_s(deadline))
        errors = self._admin.ask("describe topics", futures, deadline).errors
        return frozenset(name for name, error in errors.items() if error.name() == "TOPIC_AUTHORIZATION_FAILED")

    def _make(self, new: Mapping[str, TopicSpec], deadline: Deadline) -> dict[str, tuple[str, ...]]:
        errors = self._create({name: spec.config for name, spec in new.items()}, new, deadline)
        again = [name for name, error in errors.items() if error.name() in _BAD_SETTING]
        without = {}
        if again:
            errors = {name: error for name, error in errors.items() if name not in again}
            errors |= self._create({name: new[name].essential_config for name in again}, new, deadline)
            for name in again:
                without[name] = tuple(sorted(set(new[name].config) - set(new[name].essential_config)))
        for name, error in errors.items():
            raise refused(f"create topic {name}", error)
        return without

    def _create(
        self, configs: Mapping[str, Mapping[str, str]], new: Mapping[str, TopicSpec], deadline: Deadline
    ) -> dict[str, Any]:
        """Make topics with these configurations; errors by topic, without those that somebody else just made."""
        if not configs:
            return {}
        requests = [
            NewTopic(name, new[name].partitions, replication_factor=new[name].replication, config=dict(config))
            for name, config in configs.items()
        ]
        futures = self._client.create_topics(requests, request_timeout=self._admin.patience_s(deadline))
        errors = self._admin.ask("create topics", futures, deadline).errors
        return {name: error for name, error in errors.items() if error.name() != "TOPIC_ALREADY_EXISTS"}

    def _await_partitions(self, partitions: Mapping[str, int], deadline: Deadline) -> None:
        """Until the leader of each partition knows it: a broker that leads one has applied the metadata up to it."""
        if not partitions:
            return

        def known() -> bool:
            # Asking for all metadata also refreshes librdkafka's cache, by which it finds the leaders to ask next.
            topics = self._admin.metadata(deadline).topics
            if any(name not in topics or len(topics[name].partitions) < count for name, count in partitions.items()):
                return False
            return len(self._offsets(partitions, _END, deadline)) == sum(partitions.values())

        if not deadline.poll(known):
            detail = "the topics are made, but not every partition has a leader yet"
            raise KafkaUnreachable(self._admin.bootstrap, deadline.timeout_s, detail)

    def _offsets(
        self, partitions: Mapping[str, int], spec: OffsetSpec, deadline: Deadline
    ) -> dict[tuple[str, int], int]:
        places = {TopicPartition(name, number): spec for name, count in partitions.items() for number in range(count)}
        if not places:
            return {}
        try:
            futures = self._client.list_offsets(places, request_timeout=self._admin.patience_s(deadline))
        except KafkaException as error:
            raise self._admin.failure("list offsets", error.args[0], deadline) from error
        answers = self._admin.ask("list offsets", futures, deadline)
        for place, refusal in answers.errors.items():
            if refusal.name() not in _NOT_YET:
                raise refused(f"list offsets of {place.topic}", refusal)
        return {(place.topic, place.partition): answer.offset for place, answer in answers.items()}


def _found(name: str, partitions: Mapping[int, Any], config: Mapping[str, str] | None) -> FoundTopic:
    return FoundTopic(
        name=name,
        partitions=len(partitions),
        replication=min((len(partition.replicas) for partition in partitions.values()), default=0),
        config=config,
        offline=tuple(sorted(number for number, partition in partitions.items() if partition.leader < 0)),
    )
