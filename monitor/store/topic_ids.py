"""Asks Kafka for the ids of topics: a topic that was deleted and made again has another one.

Source: KIP-516.
"""

from __future__ import annotations

from collections.abc import Collection

from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from fairlane.monitor.scan import reaching
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.connection import Connection
from fairlane.topics.denial import on_topic


class TopicIds:
    """An admin client that is kept: what it was asked is cancelled when it goes.

    Args:
        connection: to the cluster.
        timeout_s: how long one question may take, seconds.
    """

    def __init__(self, connection: Connection, *, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._admin = AdminClient(connection.admin(), logger=librdkafka_log)

    def of(self, topics: Collection[str]) -> dict[str, str]:
        """The id of each topic, as text.

        Raises:
            KafkaUnreachable: no broker answered.
            KafkaRefused: one of them is not there (any more), or may not be described.
        """
        asked = self._admin.describe_topics(TopicCollection(topic_names=list(topics)), request_timeout=self._timeout_s)
        found = {}
        for topic, future in asked.items():
            with reaching(self._connection, self._timeout_s, f"describe {topic}", on_topic("Describe", topic)):
                found[topic] = str(future.result(self._timeout_s + 1).topic_id)
        return found
