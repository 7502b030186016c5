"""What the demo enqueues: a backlog of every priority, one task for later, and one from a plain Kafka client.

Invariant: everything that is enqueued is known by its origin, the one thing that is unique of a task.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from itertools import count
from threading import Event
from typing import Any, Final

from confluent_kafka import KafkaError, Message, Producer

from fairlane import Call, TaskHandle
from fairlane.demo.journal import Enqueued
from fairlane.demo.tasks import app, charge_card, import_legacy, nightly_report, resize_image, send_receipt
from fairlane.topics.errors import KafkaRefused, KafkaUnreachable

PER_LANE: Final = 60
DEAD: Final = 3
DELAY_S: Final = 8.0
FOREIGN: Final = {"type": "send_receipt", "payload": {"order": 1001, "to": "cleo@example.com"}}
"""All that a client of any language has to write into `shop.p5`."""

_PEOPLE: Final = ("ada", "ben", "cleo", "dora", "emil")
_FLUSH_S: Final = 10.0


def backlog() -> list[Call[Any]]:
    """Calls of every priority, the least urgent first: whoever worked in that order would get it all wrong."""
    calls: list[Call[Any]] = [nightly_report.call(day=day) for day in range(1, PER_LANE + 1)]
    # A task's priority is a default: here images that nobody waits for.
    archive = resize_image.options(priority=2)
    calls += [archive.call(path=f"archive/{number}.jpg", width=200) for number in range(PER_LANE - DEAD)]
    calls += [import_legacy.call(file=f"customers-{number}.csv") for number in range(DEAD)]
    calls += [resize_image.call(path=f"new/{number}.jpg", width=1200) for number in range(PER_LANE)]
    calls += [charge_card.call(order=order, cents=995 + order) for order in range(1, PER_LANE + 1)]
    calls += [send_receipt.call(order=order, to=_address(order)) for order in range(1, PER_LANE + 1)]
    return calls


def enqueue_all(bootstrap: str) -> list[Enqueued]:
    """Enqueue the backlog and the two others, and wait until Kafka has acknowledged them."""
    calls = backlog()
    handles = app.enqueue_many(calls)
    enqueued = [_known(handle, call) for handle, call in zip(handles, calls, strict=True)]
    later = send_receipt.options(delay_s=DELAY_S).enqueue(order=PER_LANE + 1, to=_address(PER_LANE + 1))
    place = _place(later)
    enqueued.append(Enqueued(*place, send_receipt.type, send_receipt.priority, kind="delayed", delay_s=DELAY_S))
    enqueued.append(write_as_a_plain_client(bootstrap, send_receipt.priority))
    return enqueued


def _address(order: int) -> str:
    return f"{_PEOPLE[order % len(_PEOPLE)]}@example.com"


def _known(handle: TaskHandle[Any], call: Call[Any]) -> Enqueued:
    return Enqueued(*_place(handle), type=call.type, level=call.terms.lane.level, kind="backlog")


def _place(handle: TaskHandle[Any]) -> tuple[str, str]:
    return f"{handle.topic}/{handle.partition}/{handle.offset}", handle.id


def write_as_a_plain_client(bootstrap: str, level: int) -> Enqueued:
    """Write a task without fairlane: JSON on a topic, by confluent_kafka alone. Its id is its origin."""
    written: list[str] = []
    refused: list[KafkaError] = []

    def acknowledged(error: KafkaError | None, message: Message) -> None:
        if error is None:
            written.append(f"{message.topic()}/{message.partition()}/{message.offset()}")
        else:
            refused.append(error)

    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(f"{app.queue}.p{level}", json.dumps(FOREIGN).encode(), on_delivery=acknowledged)
    producer.flush(_FLUSH_S)
    if refused:
        raise KafkaRefused(refused[0].name(), refused[0].str())
    if not written:
        raise KafkaUnreachable(bootstrap, _FLUSH_S)
    return Enqueued(written[0], written[0], str(FOREIGN["type"]), level, "foreign")


def stream(per_s: float, ended: Event) -> Iterator[TaskHandle[Any]]:
    """Enqueue tasks of all types without end, about so many a second, until `ended` is set."""
    orders = count(1)
    while not ended.wait(random.expovariate(per_s)):
        yield app.enqueue_many([_some_call(next(orders))])[0]


def _some_call(order: int) -> Call[Any]:
    some: Sequence[Call[Any]] = (
        send_receipt.call(order=order, to=_address(order)),
        charge_card.call(order=order, cents=995 + order),
        resize_image.call(path=f"new/{order}.jpg", width=1200),
        nightly_report.call(day=order),
        import_legacy.call(file=f"customers-{order}.csv"),
    )
    return random.choices(some, weights=(8, 8, 8, 4, 1))[0]  # noqa: S311
