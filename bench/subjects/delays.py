"""Subject: how late, and whether ever early, delayed tasks and retries start, on a worker that has nothing else to do.

Method: half of the tasks are enqueued with delays spread over the given time, half fail once and ask for a delay out of
the same. Lateness is the start's wall clock minus the due time that the task carries, both on this machine.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time

from fairlane import Fairlane, RetryLater, context
from fairlane.working import process_worker_of
from subjects.hosting import holding, tell

SHORTEST_S = 0.2


async def work(app: Fairlane, tasks: int, longest_s: float) -> dict[str, float]:
    late_ms: list[float] = []
    done = asyncio.Event()
    rng = random.Random(1)

    def started() -> None:
        late_ms.append(time.time_ns() / 1e6 - context().task.not_before_ms)
        if len(late_ms) == tasks:
            done.set()

    @app.task
    async def delayed() -> None:
        started()

    @app.task
    async def retried(delay_s: float) -> None:
        if context().attempt == 1:
            raise RetryLater(delay_s, "the test of delays")
        started()

    worker = process_worker_of(app, concurrency=100)
    running = asyncio.create_task(worker.run())
    await holding(worker)
    delays = [rng.uniform(SHORTEST_S, longest_s) for _ in range(tasks)]
    calls = [
        delayed.options(delay_s=delay_s).call() if number % 2 else retried.call(delay_s)
        for number, delay_s in enumerate(delays)
    ]
    await app.aenqueue_many(calls)
    ended = asyncio.create_task(done.wait())
    await asyncio.wait({running, ended}, timeout=60 + 2 * longest_s, return_when=asyncio.FIRST_COMPLETED)
    worker.stop()
    await running
    await app.aclose()
    if not done.is_set():
        raise SystemExit(f"{len(late_ms)} of {tasks} tasks started")
    cuts = statistics.quantiles(late_ms, n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], "min_ms": min(late_ms)}


def main(queue: str, tasks: int, longest_s: float) -> None:
    tell(asyncio.run(work(Fairlane(queue), tasks, longest_s)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
