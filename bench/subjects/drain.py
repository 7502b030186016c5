"""Subject: one fairlane worker process that runs all tasks of a queue, and what each cost.

Method: the tasks wait before the worker starts, on all five lanes. Time runs from the first handler's start until Kafka
has every task as settled, results and statuses included, so the last commit counts. Exactly one outcome for each task
is checked afterwards. CPU is the whole process's, from the first start until all is settled and all spans are exported.

Kinds: `noop`, async; `sync`, a plain `def` on threads; `wait`, 50 ms of asyncio.sleep.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time

from opentelemetry import trace
from settled import Settled, expect_outcomes

from fairlane import Fairlane
from fairlane.topics import tracing_setup
from fairlane.topics.names import LEVELS, QueueNames
from subjects.hosting import run_until, tell

WAIT_S = 0.05
EXPORTS_WITHIN_MS = 60_000


class Count:
    """When the first task began and the last one ended, on the loop."""

    def __init__(self, tasks: int) -> None:
        self.left = tasks
        self.began = self.ended = self.cpu_began = 0.0
        self.done = asyncio.Event()

    def begin(self) -> None:
        self.cpu_began = time.process_time()
        self.began = time.perf_counter()

    def end(self) -> None:
        self.ended = time.perf_counter()
        self.done.set()


class SyncCount(Count):
    """The same from threads."""

    def __init__(self, tasks: int) -> None:
        super().__init__(tasks)
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()

    def one(self) -> None:
        with self._lock:
            if not self.began:
                self.begin()
            self.left -= 1
            if not self.left:
                self.ended = time.perf_counter()
                self._loop.call_soon_threadsafe(self.done.set)


def define(app: Fairlane, kind: str, tasks: int) -> Count:
    """The handler of the tasks, of this kind."""
    if kind == "sync":
        in_threads = SyncCount(tasks)

        @app.task("noop")
        def sync_noop(number: int) -> int:
            in_threads.one()
            return number

        return in_threads
    count = Count(tasks)
    if kind == "wait":

        @app.task("noop")
        async def wait(number: int) -> int:
            if not count.began:
                count.begin()
            await asyncio.sleep(WAIT_S)
            count.left -= 1
            if not count.left:
                count.end()
            return number

        return count

    @app.task("noop")
    async def noop(number: int) -> int:
        if not count.began:
            count.begin()
        count.left -= 1
        if not count.left:
            count.end()
        return number

    return count


async def work(app: Fairlane, kind: str, tasks: int, concurrency: int) -> dict[str, float]:
    count = define(app, kind, tasks)
    settled = Settled(app.connection, app.names.group, map(app.names.lane, LEVELS))
    seen = asyncio.Event()
    measured: dict[str, float] = {}

    async def watch() -> None:
        await count.done.wait()
        took_s = await asyncio.to_thread(settled.wait) - count.began
        provider = trace.get_tracer_provider()
        if hasattr(provider, "force_flush"):
            await asyncio.to_thread(provider.force_flush, EXPORTS_WITHIN_MS)
        cpu_s = time.process_time() - count.cpu_began
        measured.update(
            per_s=tasks / took_s,
            cpu_us=cpu_s / tasks * 1e6,
            handlers_s=count.ended - count.began,
        )
        seen.set()

    watching = asyncio.create_task(watch())
    await run_until(app, seen, concurrency=concurrency)
    await watching
    return measured


def main(queue: str, kind: str, tasks: int, concurrency: int) -> None:
    tracing_setup.configure()
    app = Fairlane(queue)
    measured = asyncio.run(work(app, kind, tasks, concurrency))
    expect_outcomes(app.connection, QueueNames(queue), tasks)
    tell(measured)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
