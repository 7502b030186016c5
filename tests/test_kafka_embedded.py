"""The embedded Kafka, for real: it starts, answers, keeps data, breaks and ends as it says."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient


@pytest.mark.kafka
def test_the_kafka_of_the_session_answers(kafka: str) -> None:
    assert AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).brokers
