"""Subject: one fairlane worker process with an async no-op handler; result and status stored, exactly one outcome."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from confluent_kafka import Consumer, TopicPartition

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.handlers import Handler
from fairlane.consumer.worker import Worker
from fairlane.topics.connection import Connection
from fairlane.topics.names import QueueNames
from fairlane.topics.payload import Signature


class Count:
    """When the first and the last of so many tasks ran."""

    def __init__(self, tasks: int) -> None:
        self.left = tasks
        self.began = 0.0
        self.ended = asyncio.Event()


def outcomes(connection: Connection, names: QueueNames) -> int:
    """Status records that a read_committed reader sees."""
    consumer = Consumer(connection.consumer() | {"group.id": f"{names.queue}-count", "enable.partition.eof": True})
    partitions = consumer.list_topics(names.status, timeout=10).topics[names.status].partitions
    consumer.assign([TopicPartition(names.status, number, 0) for number in partitions])
    seen = ends = 0
    while ends < len(partitions):
        for message in consumer.consume(5_000, 1.0):
            if message.error() is None:
                seen += 1
            else:
                ends += 1
    consumer.close()
    return seen


async def work(connection: Connection, queue: str, tasks: int) -> float:
    count = Count(tasks)

    async def noop(number: int) -> int:
        if not count.began:
            count.began = time.perf_counter()
        count.left -= 1
        if not count.left:
            count.ended.set()
        return number

    handlers = {"noop": Handler("noop", noop, Signature.of(noop))}
    worker = Worker(WorkerConfig(connection, queue, concurrency=500), handlers)
    running = asyncio.create_task(worker.run())
    ended = asyncio.create_task(count.ended.wait())
    await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
    took_s = time.perf_counter() - count.began
    worker.stop()
    await running
    return took_s


def main(bootstrap: str, queue: str, tasks: int) -> None:
    connection = Connection(bootstrap)
    took_s = asyncio.run(work(connection, queue, tasks))
    settled = outcomes(connection, QueueNames(queue))
    if settled != tasks:
        raise SystemExit(f"{tasks} tasks, {settled} outcomes")
    print(json.dumps({"per_s": tasks / took_s}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
