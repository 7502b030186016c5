"""Subject: how fast tasks get into Kafka.

Kinds:
    many   `app.enqueue_many` of 10,000 calls at a time, their making included; it waits for every acknowledgement.
    raw    a plain producer with the same headers, as many at a time, which learns of every acknowledgement too.
    blind  the same without that: `flush` at the end, and no word about which record did not arrive.
    one    `task.enqueue(…)`, one after the other, each acknowledged before the next; p50 in ms.
"""

from __future__ import annotations

import statistics
import sys
import time

from confluent_kafka import KafkaError, Message
from load import UNSAMPLED, headers, producer

from fairlane import Fairlane
from fairlane.topics import tracing_setup
from fairlane.topics.ids import new_id
from subjects.hosting import tell

BATCH = 10_000
WARM_UP = 2_000


def batches(tasks: int) -> list[range]:
    """The numbers of the tasks, after those that warm it up."""
    starts = [0, *range(WARM_UP, WARM_UP + tasks, BATCH)]
    ends = [WARM_UP, *(min(start + BATCH, WARM_UP + tasks) for start in starts[1:])]
    return [range(start, end) for start, end in zip(starts, ends, strict=True)]


def many(app: Fairlane, tasks: int) -> dict[str, float]:
    @app.task
    async def noop(number: int) -> None: ...

    began = time.perf_counter()
    for batch in batches(tasks):
        app.enqueue_many([noop.call(number) for number in batch])
        if not batch.start:
            began = time.perf_counter()
    return {"per_s": tasks / (time.perf_counter() - began)}


def raw(app: Fairlane, tasks: int, *, blind: bool) -> dict[str, float]:
    to = producer(app.connection)
    fixed, lane = headers("noop", UNSAMPLED), app.names.lane(3)
    failed: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    began = time.perf_counter()
    for batch in batches(tasks):
        for number in batch:
            value = b'{"number":%d}' % number
            told = [*fixed, ("ce_id", new_id())]
            if blind:
                to.produce(lane, value, headers=told)
            else:
                to.produce(lane, value, headers=told, on_delivery=on_delivery)
        if (not blind and to.flush(60)) or failed:
            raise SystemExit(f"not all arrived: {failed[:1]}")
        if not batch.start:
            to.flush(60)
            began = time.perf_counter()
    if to.flush(60):
        raise SystemExit("not all arrived")
    return {"per_s": tasks / (time.perf_counter() - began)}


def one(app: Fairlane, tasks: int) -> dict[str, float]:
    @app.task
    async def noop(number: int) -> None: ...

    noop.enqueue(0)
    took_ms = []
    for number in range(tasks):
        began = time.perf_counter()
        noop.enqueue(number)
        took_ms.append((time.perf_counter() - began) * 1000)
    return {"p50_ms": statistics.median(took_ms), "per_s": 1000 * tasks / sum(took_ms)}


def main(queue: str, kind: str, tasks: int) -> None:
    tracing_setup.configure()
    with Fairlane(queue) as app:
        if kind == "many":
            tell(many(app, tasks))
        elif kind == "one":
            tell(one(app, tasks))
        else:
            tell(raw(app, tasks, blind=kind == "blind"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
