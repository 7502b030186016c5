"""Which topics do not exist, of those that a producer got no record into in time.

Invariant: a client lets a record for a topic that was deleted time out, as for a broker that is silent, so Kafka is
asked; a topic that it says nothing of is not named.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from confluent_kafka import KafkaError, TopicCollection

from fairlane.topics.admin_client import Admin
from fairlane.topics.connection import Connection
from fairlane.topics.deadline import Deadline
from fairlane.topics.errors import KafkaRefused, KafkaUnreachable

TIMEOUT_S: Final = 5.0


def missing_topics(connection: Connection, topics: Iterable[str]) -> frozenset[str]:
    """Those of the topics that do not exist; none where Kafka does not answer in time.

    Args:
        connection: who asks.
        topics: their names, one at least.
    """
    admin = Admin(connection)
    futures = admin.client.describe_topics(TopicCollection(sorted(set(topics))), request_timeout=TIMEOUT_S)
    try:
        errors = admin.ask("describe topics", futures, Deadline(TIMEOUT_S)).errors
    except (KafkaUnreachable, KafkaRefused):
        return frozenset()
    return frozenset(topic for topic, error in errors.items() if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART)
