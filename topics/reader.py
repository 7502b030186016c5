"""Ask Kafka what there is of a queue: its topics, their settings and sizes, its workers.

Invariant: it only asks. Whoever has a TopicReader can change nothing, and needs no more than the right to Describe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are in its documentation
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from fairlane.topics.admin_client import Admin
from fairlane.topics.connection import Connection
from fairlane.topics.deadline import Deadline
from fairlane.topics.denial import on_topic
from fairlane.topics.names import QueueNames
from fairlane.topics.plan import Found, FoundTopic
from fairlane.topics.topology import Topology, topics_of_queue

DEFAULT_TIMEOUT_S: Final = 10.0

_FIRST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_END: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
UNKNOWN: Final = "UNKNOWN_TOPIC_OR_PART"
# A topic that was just made, a leader that was just chosen: the next answer may be another.
_NOT_YET: Final = frozenset(
    {
        UNKNOWN,
        "_UNKNOWN_PARTITION",
        "FENCED_LEADER_EPOCH",
        "LEADER_NOT_AVAILABLE",
        "NOT_LEADER_FOR_PARTITION",
        "OFFSET_NOT_AVAILABLE",
        "UNKNOWN_LEADER_EPOCH",
    }
)


class TopicReader:
    """The topics of queues on one Kafka, to look at.

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

    def topics_of(self, queue: QueueNames) -> tuple[str, ...]:
        """Every topic there is whose name derives from the queue's, declared or not."""
        return topics_of_queue(queue, self._admin.metadata(Deadline(self._timeout_s)).topics)

    def workers(self, queue: QueueNames) -> int:
        """How many members the queue's consumer group has; 0 also if we may not know."""
        deadline = Deadline(self._timeout_s)
        if not self._has_group(queue, deadline):
            return 0
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
        ends = self._ends(partitions, deadline)
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
            raise self._admin.refused("describe the cluster", error)
        return len(answers["cluster"].nodes or ())

    def _find(self, topology: Topology, deadline: Deadline) -> Found:
        brokers = self._brokers(deadline)
        everything = self._admin.metadata(deadline).topics
        declared = {spec.name for spec in topology.specs}
        present = sorted((declared & set(everything)) | set(topics_of_queue(topology.names, everything)))
        configs = self._configs(present, deadline)
        topics = {name: _found(name, everything[name].partitions, configs[name]) for name in present if name in configs}
        forbidden = self._forbidden(declared - set(topics), deadline)
        return Found(topics, brokers, forbidden, self._admin.bootstrap, self._admin.principal)

    def _has_group(self, queue: QueueNames, deadline: Deadline) -> bool:
        """Whether anybody has ever worked on the queue, as far as we may know.

        A list asks every broker; anything else asks the group's coordinator, which a new Kafka has none of yet, so that
        the question would wait until its time is over.
        """
        future = self._client.list_consumer_groups(request_timeout=self._admin.patience_s(deadline))
        answers = self._admin.ask("list the consumer groups", {"all": future}, deadline)
        return any(group.group_id == queue.group for listed in answers.values() for group in listed.valid)

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

    def _ends(self, partitions: Mapping[str, int], deadline: Deadline) -> dict[tuple[str, int], int]:
        """The end offset of each partition whose leader knows it."""
        return self._offsets(partitions, _END, deadline)

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
                action, right = f"list offsets of {place.topic}", on_topic("Describe", place.topic)
                raise self._admin.refused(action, refusal, right)
        return {(place.topic, place.partition): answer.offset for place, answer in answers.items()}


def _found(name: str, partitions: Mapping[int, Any], config: Mapping[str, str] | None) -> FoundTopic:
    return FoundTopic(
        name=name,
        partitions=len(partitions),
        replication=min((len(partition.replicas) for partition in partitions.values()), default=0),
        config=config,
        offline=tuple(sorted(number for number, partition in partitions.items() if partition.leader < 0)),
    )
