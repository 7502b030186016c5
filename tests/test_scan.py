"""Reading stretches of topics: where one stretch ends, the next one begins.

What do these tests do? They read from a fake consumer, whose partitions go on growing while they are read.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from kafka_client_fakes import FakeConsumer, end_of_partition, message

from fairlane.monitor import scan
from fairlane.monitor.scan import BEGINNING, Scanner
from fairlane.topics.connection import Connection
from fairlane.topics.errors import FairlaneError


class Growing(FakeConsumer):
    """A consumer without a group."""

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics={})

    def assign(self, partitions: Any) -> None: ...

    def unassign(self) -> None: ...


def test_what_came_after_the_end_of_a_partition_is_read_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [message(0), end_of_partition(1), message(1), end_of_partition(2), end_of_partition(0, partition=1)]
    monkeypatch.setattr(scan, "Consumer", lambda *_, **__: Growing([first]))
    scanner = Scanner(Connection("nowhere:9092"), timeout_s=5, group="fairlane-shop")
    read = list(scanner.read({("shop.p5", 0): BEGINNING, ("shop.p5", 1): BEGINNING}))
    assert [found.offset() for found in read] == [0]
    assert scanner.ends == {("shop.p5", 0): 1, ("shop.p5", 1): 0}


class Moving(Growing):
    """A consumer whose coordinator answers so, one after the other."""

    def __init__(self, *answers: int) -> None:
        super().__init__([])
        self.answers = list(answers)

    def committed(self, places: Any, timeout: float = 0) -> Any:
        if self.answers:
            raise KafkaException(KafkaError(self.answers.pop(0), "words"))
        return [TopicPartition(each.topic, each.partition, 7) for each in places]


@pytest.fixture
def scanner(monkeypatch: pytest.MonkeyPatch) -> Callable[[Moving], Scanner]:
    def of(consumer: Moving) -> Scanner:
        monkeypatch.setattr(scan, "Consumer", lambda *_, **__: consumer)
        return Scanner(Connection("nowhere:9092"), timeout_s=0.3, group="fairlane-shop")

    return of


def test_a_coordinator_that_is_on_its_way_is_waited_for(scanner: Callable[[Moving], Scanner]) -> None:
    """On a Kafka that has just started there is none yet."""
    moving = Moving(KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR)
    assert scanner(moving).commits([("shop.p5", 0)])[("shop.p5", 0)].offset == 7


def test_a_coordinator_that_does_not_come_is_said_after_the_timeout(scanner: Callable[[Moving], Scanner]) -> None:
    moving = Moving(*[KafkaError.NOT_COORDINATOR] * 100)
    with pytest.raises(FairlaneError, match="NOT_COORDINATOR"):
        scanner(moving).commits([("shop.p5", 0)])
    assert 2 <= 100 - len(moving.answers) < 100


def test_a_refusal_is_said_at_once(scanner: Callable[[Moving], Scanner]) -> None:
    moving = Moving(*[KafkaError.GROUP_AUTHORIZATION_FAILED] * 2)
    with pytest.raises(FairlaneError, match="fairlane-shop"):
        scanner(moving).commits([("shop.p5", 0)])
    assert len(moving.answers) == 1
