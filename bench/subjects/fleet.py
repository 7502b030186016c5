"""Subject: several small workers in one process, until its stdin ends; says `ready` when each of them has partitions.

Ten to a process save the memory of a hundred interpreters and nothing else: each has its own consumer, its own
transactional producer and its own heartbeat, as it would in a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import sys

from fairlane import Fairlane
from fairlane.working import worker_of
from subjects.hosting import holding


async def work(app: Fairlane, workers: int) -> None:
    @app.task
    async def probe(sent_ns: int) -> int:
        return sent_ns

    fleet = [worker_of(app, concurrency=10, worker=f"{os.getpid()}-{number}") for number in range(workers)]
    running = [asyncio.create_task(worker.run()) for worker in fleet]
    for worker in fleet:
        await holding(worker, timeout_s=120)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for worker in fleet:
        worker.stop()
    await asyncio.gather(*running)


def main(queue: str, workers: int) -> None:
    asyncio.run(work(Fairlane(queue), workers))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
