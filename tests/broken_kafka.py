"""A queue on a Kafka that is not as it should be: what is sent to it, what came of that, and what its worker said."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from live_queue import headers_of, records, wait_until
from working_queue import WorkingQueue

from fairlane.consumer.context import context
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.signals import RetryLater
from fairlane.topics.events import TERMINAL, decode_status

COUNT = 20
ONCE = RetryPolicy(max_attempts=1)


async def work(how: str) -> str:
    if how == "dead":
        raise ValueError("no good")
    if how == "later" and context().attempt == 1:
        raise RetryLater(5.0, "not yet")
    if how.startswith("emit "):
        context().emit(how.removeprefix("emit "), b"a record of somebody else's")
    return how


def send(queue: WorkingQueue, how: str = "done", count: int = COUNT) -> None:
    queue.send(*[queue.task("work", b'{"how":"%s"}' % how.encode()) for _ in range(count)])


def ends(queue: WorkingQueue) -> Counter[str]:
    """How many tasks came to an end, and how many have more than one: read anew, since the topic may be a new one."""
    origins: dict[bytes, list[str]] = {}
    for record in records(queue.bootstrap, queue.names.status):
        event = decode_status(record.value() or b"")
        if event is not None and event.state in TERMINAL:
            origins.setdefault(headers_of(record)["fairlane-origin"] or b"", []).append(event.state)
    return Counter("twice" if len(states) > 1 else states[0] for states in origins.values())


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the worker said of Kafka; what its tasks failed of is another matter."""
    return [
        each.getMessage()
        for each in caplog.records
        if each.levelno >= logging.WARNING
        and each.name.startswith("fairlane.")
        and each.name != "fairlane.executor"
        # That a group begins is no complaint.
        and "has no committed offsets" not in each.getMessage()
    ]


def wait_complaint(caplog: pytest.LogCaptureFixture, says: str) -> None:
    wait_until(lambda: any(says in each for each in complaints(caplog)), says)
