"""What `list_topics` returns of an in-memory broker.

Invariant: it has the attributes of `confluent_kafka.admin.ClusterMetadata` that fairlane asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaError


@dataclass(frozen=True)
class PartitionView:
    """One partition."""

    id: int
    leader: int = 1
    replicas: tuple[int, ...] = (1,)
    isrs: tuple[int, ...] = (1,)
    error: KafkaError | None = None


@dataclass(frozen=True)
class TopicView:
    """One topic; `error` says that there is none of this name."""

    topic: str
    partitions: Mapping[int, PartitionView]
    error: KafkaError | None = None


@dataclass(frozen=True)
class ClusterView:
    """The cluster."""

    topics: Mapping[str, TopicView]
    brokers: Mapping[int, str] = field(default_factory=lambda: {1: "memory"})
    controller_id: int = 1
    cluster_id: str = "memory"


def cluster_view(topics: Mapping[str, int], topic: str | None) -> ClusterView:
    """What there is, or what there is to say of one topic."""
    found = {
        name: TopicView(name, {number: PartitionView(number) for number in range(count)})
        for name, count in topics.items()
        if topic is None or name == topic
    }
    if topic is not None and topic not in found:
        found[topic] = TopicView(topic, {}, KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    return ClusterView(found)
