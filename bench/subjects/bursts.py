"""Subject: the rate at which a warm worker works off a backlog of so many tasks, several times over.

Method: each backlog is written in one Kafka transaction, so that all of it is there at once, to a worker that is idle.
Time runs from the first handler's start until all of it is settled. The first backlog warms it up and does not count.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from confluent_kafka import Producer
from load import UNSAMPLED, put
from settled import Settled

from fairlane import Fairlane
from fairlane.topics.names import LEVELS
from fairlane.working import process_worker_of
from subjects.hosting import ENDS_WITHIN_S, holding, tell


class Burst:
    """The starts of one backlog."""

    def __init__(self, tasks: int) -> None:
        self.left = tasks
        self.began = 0.0
        self.started = asyncio.Event()

    def start(self) -> None:
        """A task starts."""
        if not self.began:
            self.began = time.perf_counter()
        self.left -= 1
        if not self.left:
            self.started.set()


def send(app: Fairlane, to: Producer, tasks: int) -> Settled:
    """All of them at once; returns what will know when they are settled."""
    to.begin_transaction()
    put(to, app.names, LEVELS, range(tasks), "noop", UNSAMPLED)
    to.flush(60)
    # Before the commit, whose marker is an offset too that no task has.
    settled = Settled(app.connection, app.names.group, map(app.names.lane, LEVELS))
    to.commit_transaction(60)
    return settled


async def work(app: Fairlane, tasks: int, times: int) -> dict[str, float]:
    burst = Burst(tasks)

    @app.task
    async def noop(number: int) -> int:
        burst.start()
        return number

    worker = process_worker_of(app, concurrency=500)
    running = asyncio.create_task(worker.run())
    await holding(worker)
    to = Producer(
        app.connection.producer(
            transactional_id=f"{app.queue}-bursts", linger_ms=20, queue_buffering_max_messages=1_000_000
        )
    )
    await asyncio.to_thread(to.init_transactions, 30)
    rates = []
    for _ in range(times + 1):
        burst = Burst(tasks)
        settled = await asyncio.to_thread(send, app, to, tasks)
        # To ask Kafka all the time would cost what is measured.
        await asyncio.wait_for(burst.started.wait(), ENDS_WITHIN_S)
        ended = await asyncio.to_thread(settled.wait)
        rates.append(tasks / (ended - burst.began))
    worker.stop()
    await running
    return {"per_s": statistics.median(rates[1:])}


def main(queue: str, tasks: int, times: int) -> None:
    tell(asyncio.run(work(Fairlane(queue), tasks, times)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
