"""Make the topics of a queue, grow, mend and delete them.

Invariant: it does what the declaration says and decides nothing. Making twice is making once. A topic that the queue
does not own is never touched. No call takes longer than it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are in its documentation
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from fairlane.topics.deadline import Deadline
from fairlane.topics.denial import on_topic
from fairlane.topics.errors import KafkaUnreachable, UsageError
from fairlane.topics.names import QueueNames
from fairlane.topics.plan import resolve
from fairlane.topics.reader import UNKNOWN, TopicReader
from fairlane.topics.topology import SAME_COUNT, TopicSpec, Topology

_EXISTS: Final = "TOPIC_ALREADY_EXISTS"
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


class TopicAdmin(TopicReader):
    """The topics of queues on one Kafka, to make and to change; arguments and errors are those of a TopicReader."""

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
        made, without = self._make(new, deadline)
        self._await_partitions({name: spec.partitions for name, spec in new.items()}, deadline)
        return Creation(
            topology=wanted,
            brokers=found.brokers,
            made=made,
            there=tuple(spec.name for spec in wanted.owned if spec.name not in made),
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
                raise self._admin.refused(f"add partitions to {name}", error, on_topic("Alter", name))
            self._await_partitions(dict.fromkeys(fewer, partitions), deadline)
        return fewer

    def configure(self, topic: str, config: Mapping[str, str]) -> None:
        """Set these settings of a topic, leave its others as they are, and wait until Kafka says that they are set."""
        deadline = Deadline(self._timeout_s)
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        futures = self._client.incremental_alter_configs([resource], request_timeout=self._admin.patience_s(deadline))
        for error in self._admin.ask(f"configure {topic}", futures, deadline).errors.values():
            raise self._admin.refused(f"configure {topic}", error, on_topic("AlterConfigs", topic))

        def visible() -> bool:
            now = self._configs([topic], deadline).get(topic)
            return now is None or config.items() <= now.items()

        if not deadline.poll(visible):
            raise KafkaUnreachable(self._admin.bootstrap, deadline.timeout_s, "the settings are not visible yet")

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
                if error.name() != UNKNOWN:
                    raise self._admin.refused(f"delete topic {name}", error, on_topic("Delete", name))
            if not deadline.poll(lambda: not set(topics) & set(self._admin.metadata(deadline).topics)):
                raise KafkaUnreachable(self._admin.bootstrap, deadline.timeout_s, "the topics are still listed")
        if self._has_group(queue, deadline):
            groups = [queue.group]
            futures = self._client.delete_consumer_groups(groups, request_timeout=self._admin.patience_s(deadline))
            # A group that still has members or is not ours to delete keeps no topic alive.
            self._admin.ask("delete the consumer group", futures, deadline)
        return topics

    def _make(
        self, new: Mapping[str, TopicSpec], deadline: Deadline
    ) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
        """Which topics were made, and which of those without which settings."""
        errors = self._create({name: spec.config for name, spec in new.items()}, new, deadline)
        again = [name for name, error in errors.items() if error.name() in _BAD_SETTING]
        if again:
            errors |= self._create({name: new[name].essential_config for name in again}, new, deadline)
        refusals = {name: error for name, error in errors.items() if error.name() not in ("NO_ERROR", _EXISTS)}
        for name, error in refusals.items():
            raise self._admin.refused(f"create topic {name}", error, on_topic("Create", name))
        made = tuple(name for name in new if errors[name].name() == "NO_ERROR")
        left_out = {name: tuple(sorted(set(new[name].config) - set(new[name].essential_config))) for name in again}
        return made, {name: settings for name, settings in left_out.items() if name in made}

    def _create(
        self, configs: Mapping[str, Mapping[str, str]], new: Mapping[str, TopicSpec], deadline: Deadline
    ) -> dict[str, KafkaError]:
        """Make topics with these configurations, and say what Kafka said to each."""
        if not configs:
            return {}
        requests = [
            NewTopic(name, new[name].partitions, replication_factor=new[name].replication, config=dict(config))
            for name, config in configs.items()
        ]
        futures = self._client.create_topics(requests, request_timeout=self._admin.patience_s(deadline))
        errors = self._admin.ask("create topics", futures, deadline).errors
        return {name: errors.get(name, KafkaError(KafkaError.NO_ERROR)) for name in configs}

    def _await_partitions(self, partitions: Mapping[str, int], deadline: Deadline) -> None:
        """Until the leader of each partition knows it: a broker that leads one has applied the metadata up to it."""
        if not partitions:
            return

        def known() -> bool:
            # Asking for all metadata also refreshes librdkafka's cache, by which it finds the leaders to ask next.
            topics = self._admin.metadata(deadline).topics
            if any(name not in topics or len(topics[name].partitions) < count for name, count in partitions.items()):
                return False
            return len(self._ends(partitions, deadline)) == sum(partitions.values())

        if not deadline.poll(known):
            detail = "the topics are made, but not every partition has a leader yet"
            raise KafkaUnreachable(self._admin.bootstrap, deadline.timeout_s, detail)
