"""Subject: from the call that enqueues a task to the start of its handler, on a worker that is idle or full.

Method: tasks of p5 are enqueued by `enqueue` in a process of its own (probes.py), about every 20 ms at no fixed beat;
the time of the call is in their payload, and both clocks are this machine's. The first ones warm it up and do not
count. `full` means that p1 to p4 hold tasks of 5 to 15 ms of waiting and that all slots are taken all the time; of one
length, tasks that begin together would end together for ever, and a probe would wait for the next wave of them. With a
thousand delayed tasks and a million waiting ones, that is also where the worker's memory is watched (resident, every
half a second, for so long at least): what is told is the largest, and how much the median of the last third is
above the one of the middle third.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time

from proc import resident_mib

from fairlane import Fairlane
from fairlane.working import process_worker_of
from subjects.hosting import holding, tell

SLOTS = 50
WORK_S = (0.005, 0.015)
"""The shortest and the longest."""
WARM_UP = 30
LOOK_S = 0.5


class Probes:
    """What the probes have told."""

    def __init__(self, expected: int) -> None:
        self.waits_ms: list[float] = []
        self.first = asyncio.Event()
        self.done = asyncio.Event()
        self._expected = expected

    def add(self, wait_ms: float) -> None:
        self.waits_ms.append(wait_ms)
        self.first.set()
        if len(self.waits_ms) == self._expected:
            self.done.set()


async def watch(seen: list[float]) -> None:
    """Look at the memory of this process until cancelled."""
    while True:
        seen.append(resident_mib(os.getpid()))
        await asyncio.sleep(LOOK_S)


def memory(seen: list[float]) -> dict[str, float]:
    """The largest, and the growth at the end."""
    third = max(1, len(seen) // 3)
    growth = statistics.median(seen[-third:]) - statistics.median(seen[third : 2 * third] or seen)
    return {"rss_mib": max(seen), "rss_growth_mib": growth}


async def work(app: Fairlane, probes: int, memory_s: float) -> dict[str, float]:
    told = Probes(probes + WARM_UP)
    least_s, most_s = WORK_S

    @app.task
    async def probe(sent_ns: int) -> None:
        told.add((time.time_ns() - sent_ns) / 1e6)

    @app.task
    async def work(number: int) -> int:
        await asyncio.sleep(least_s + (most_s - least_s) * (number % 101) / 100)
        return number

    @app.task
    async def later(number: int) -> int:
        return number

    worker = process_worker_of(app, concurrency=SLOTS, grace_s=5.0)
    running = asyncio.create_task(worker.run())
    await holding(worker)
    seen: list[float] = []
    watching = asyncio.create_task(watch(seen))
    began = time.monotonic()
    command = [sys.executable, "-m", "subjects.probes", app.queue, str(probes + WARM_UP)]
    with subprocess.Popen(command) as sender:  # noqa: ASYNC220 - a few ms, before anything is timed
        ended = asyncio.create_task(told.done.wait())
        await asyncio.wait({running, ended}, timeout=120, return_when=asyncio.FIRST_COMPLETED)
        sender.wait(30)
    await asyncio.sleep(max(0.0, began + memory_s - time.monotonic()))
    watching.cancel()
    worker.stop()
    await running
    if not told.done.is_set():
        raise SystemExit(f"{len(told.waits_ms)} of {probes + WARM_UP} probes came")
    cuts = statistics.quantiles(told.waits_ms[WARM_UP:], n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], **memory(seen)}


def main(queue: str, probes: int, memory_s: float) -> None:
    tell(asyncio.run(work(Fairlane(queue), probes, memory_s)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
