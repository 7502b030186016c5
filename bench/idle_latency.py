"""Subject: from enqueue to the handler's start, on a worker that has nothing else to do."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

from confluent_kafka import Producer

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.handlers import Handler
from fairlane.consumer.worker import Worker
from fairlane.topics import wire
from fairlane.topics.connection import Connection
from fairlane.topics.ids import new_id
from fairlane.topics.names import QueueNames
from fairlane.topics.payload import Signature
from fairlane.topics.task import Task

WARM_UP = 20


async def probe(bootstrap: str, queue: str, tasks: int) -> list[float]:
    names, connection = QueueNames(queue), Connection(bootstrap)
    waits_ms: list[float] = []
    started = asyncio.Event()

    async def noop(sent_ns: int) -> None:
        waits_ms.append((time.time_ns() - sent_ns) / 1e6)
        started.set()

    worker = Worker(WorkerConfig(connection, queue), {"noop": Handler("noop", noop, Signature.of(noop))})
    running = asyncio.create_task(worker.run())
    producer = Producer(connection.producer(linger_ms=0))
    for _ in range(tasks + WARM_UP):
        value = b'{"sent_ns":%d}' % time.time_ns()
        task = Task(id=new_id(), type="noop", payload=value, value=value, lane=names.lane(3), source="bench")
        started.clear()
        producer.produce(task.lane, value, headers=list(wire.encode(task)))
        producer.poll(0)
        await asyncio.wait_for(started.wait(), 30)
        await asyncio.sleep(0.01)
    worker.stop()
    await running
    return waits_ms[WARM_UP:]


def main(bootstrap: str, queue: str, tasks: int) -> None:
    waits_ms = asyncio.run(probe(bootstrap, queue, tasks))
    cuts = statistics.quantiles(waits_ms, n=100)
    print(json.dumps({"p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
