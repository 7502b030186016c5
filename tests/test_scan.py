"""Reading stretches of topics: where one stretch ends, the next one begins.

What do these tests do? They read from a fake consumer, whose partitions go on growing while they are read.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka_client_fakes import FakeConsumer, end_of_partition, message

from fairlane.monitor import scan
from fairlane.monitor.scan import BEGINNING, Scanner
from fairlane.topics.connection import Connection


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
