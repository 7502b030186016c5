"""Parts of a worker for tests without Kafka: its configuration, tasks as they were read, and what they led to.

Invariant: everything here is frozen, and equal arguments make equal values.
"""

from __future__ import annotations

from typing import Any, Final

from fairlane.consumer.assignment import Lease
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.outcome import Completed
from fairlane.topics.connection import Connection
from fairlane.topics.names import QueueNames
from fairlane.topics.task import Origin, Task

NAMES: Final = QueueNames("shop")
NOW_MS: Final = 1_760_000_000_000
P5: Final = Assigned("shop.p5", 0, 1)


def config(**settings: Any) -> WorkerConfig:
    """The configuration of a worker of the queue `shop` that never reaches a broker."""
    return WorkerConfig(Connection("127.0.0.1:1"), "shop", **{"worker": "w1", "start": "s1", **settings})


def task(task_type: str = "send", **fields: Any) -> Task:
    """A task as it was read from the lane `shop.p5`."""
    chosen: dict[str, Any] = {
        "id": "t-1",
        "payload": b"{}",
        "value": b'{"type":"%s","payload":{}}' % task_type.encode(),
        "form": "bare",
        "priority": 5,
        "lane": "shop.p5",
        "origin": Origin("shop.p5", 0, 7),
        **fields,
    }
    return Task(type=task_type, **chosen)


def delivery(
    offset: int = 7, *, assigned: Assigned = P5, account: str = "", losses: int = 0, **fields: Any
) -> Delivery:
    """A task as it was delivered; its id follows from the offset unless it is given."""
    made = task(**{"id": f"t-{offset}", "task_type": "send", **fields})
    return Delivery(made, assigned, offset, account or assigned.topic, len(made.value) + 300, losses)


def completed(offset: int = 7, **fields: Any) -> Completed:
    """An attempt at a delivery that returned `null`."""
    return Completed(delivery(offset, **fields), NOW_MS - 10, NOW_MS, b"null")


def lease_of(*held: Assigned, number: int = 1, metadata: object = "metadata") -> Lease:
    """A lease that holds these."""
    return Lease(number, metadata, {assigned.key: assigned.epoch for assigned in held})
