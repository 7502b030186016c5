"""What a worker asks of Kafka before it starts: is the cluster new enough, and are the queue's topics as declared?

Invariant: nothing is made or changed, and the rights that a worker has anyway are enough. What cannot be found out is
said and does not stop anybody.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]  # in its documentation

from fairlane.topics.admin_client import Admin
from fairlane.topics.api_versions import what_is_missing
from fairlane.topics.connection import Connection
from fairlane.topics.deadline import Deadline
from fairlane.topics.difference import Difference, grouped
from fairlane.topics.errors import KafkaTooOld, QueueBroken, QueueUnknown
from fairlane.topics.names import QueueNames
from fairlane.topics.plan import compare
from fairlane.topics.probe import ask_broker
from fairlane.topics.reader import DEFAULT_TIMEOUT_S, TopicReader
from fairlane.topics.topology import Topology

_LOG = logging.getLogger(__name__)

_PROTOCOLS = "group.coordinator.rebalance.protocols"


def require_modern(connection: Connection, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
    """Refuse a cluster that cannot carry a queue: older than Kafka 4.0, or without the consumer groups of KIP-848.

    Needs no rights: it asks before any login. Where only librdkafka gets through to Kafka, the configuration of a
    broker is asked instead; if that may not be read either, a warning is logged, and the worker's consumer finds out.

    Args:
        connection: where Kafka is.
        timeout_s: how long it may take, seconds.

    Raises:
        KafkaTooOld: the cluster lacks something; the error says what.
        KafkaUnreachable: no broker answered in time.
    """
    deadline = Deadline(timeout_s)
    answer = ask_broker(connection, timeout_s / 2)
    missing = what_is_missing(answer) if answer is not None else _missing_by_configuration(connection, deadline)
    if missing:
        raise KafkaTooOld(connection.bootstrap, missing)


def _missing_by_configuration(connection: Connection, deadline: Deadline) -> str:
    admin = Admin(connection)
    broker = min(admin.metadata(deadline).brokers, default=-1)
    resource = ConfigResource(ResourceType.BROKER, str(broker))
    futures = admin.client.describe_configs([resource], request_timeout=admin.patience_s(deadline))
    for config in admin.ask("describe a broker", futures, deadline).values():
        return missing_in_configuration({name: str(entry.value) for name, entry in config.items()})
    _LOG.warning("could not find out whether Kafka at %s is 4.0 or newer, which fairlane needs", admin.bootstrap)
    return ""


def missing_in_configuration(config: dict[str, str]) -> str:
    """What a broker with this configuration lacks; the protocols are a setting since Kafka 3.7, on since 4.0."""
    protocols = config.get(_PROTOCOLS)
    if protocols is None:
        return f"its brokers have no setting {_PROTOCOLS}, so they are older than Kafka 4.0"
    if "consumer" not in {protocol.strip() for protocol in protocols.split(",")}:
        return f"{_PROTOCOLS} of its brokers is {protocols}, without consumer"
    return ""


def check_queue(
    connection: Connection, topology: Topology, *, timeout_s: float = DEFAULT_TIMEOUT_S
) -> tuple[Difference, ...]:
    """Find out whether a worker may start on a queue.

    Needs the right to Describe the topics; with DescribeConfigs it also sees their retention and policies. Numbers that
    the topology leaves open (partitions, replication) are those that the queue and the cluster have.

    Args:
        connection: where Kafka is.
        topology: the declaration, with the worker's own lanes and tiers.
        timeout_s: how long it may take, seconds.

    Returns:
        The warnings: the queue works, though not as it should. Each says in what way, and which command mends it;
        `grouped` makes one line of those that are alike.

    Raises:
        QueueUnknown: none of the queue's own topics exist.
        QueueBroken: a topic is missing, or one would lose data or cannot work.
        KafkaTooOld: the cluster cannot carry a queue.
        KafkaUnreachable: no answer in time.
        KafkaRefused: the login failed.
    """
    deadline = Deadline(timeout_s)
    require_modern(connection, timeout_s=timeout_s)
    found = TopicReader(connection, timeout_s=max(1.0, deadline.left_s)).find(topology)
    differences = compare(topology, found)
    refuse(topology, differences, connection.bootstrap)
    return differences


def owners_lack(names: QueueNames, differences: Sequence[Difference]) -> str:
    """Which topic keeps a worker from owning schedules, "" if it may: one that is missing, hidden, or does not match.

    Args:
        names: of the queue.
        differences: what `check_queue` found.
    """
    keeps = {"missing", "forbidden", "partitions"}
    lacking = [each.topic for each in differences if each.kind in keeps and each.topic in (names.events, names.state)]
    return min(lacking, default="")


def refuse(topology: Topology, differences: Sequence[Difference], bootstrap: str) -> None:
    """Raise if a queue with these differences cannot be used.

    Raises:
        QueueUnknown: none of the queue's own topics exist.
        QueueBroken: one of the differences is broken.
    """
    missing = [difference.topic for difference in differences if difference.kind == "missing"]
    if set(missing) >= {spec.name for spec in topology.owned}:
        raise QueueUnknown(topology.names.queue, topology.owned[0].name, bootstrap)
    broken = tuple(str(group) for group in grouped(differences) if group.severity == "broken")
    if broken:
        raise QueueBroken(topology.names.queue, broken)
