"""A supervised pool on a real Kafka: under load it grows from one process to two, and back, and nothing is lost."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_queue import wait_until
from worker_processes import WorkerProcesses, worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane.monitor.snapshot import Watcher
from fairlane.monitor.workers_view import workers_lines
from fairlane.topics.clock import now_ms

APP = """
import asyncio, os
from fairlane import Fairlane

app = Fairlane("{queue}")

@app.task()
async def work(number: int) -> int:
    await asyncio.sleep(0.05)
    return os.getpid()
"""


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=4) as queue:
        yield queue


def pid(workers: WorkerProcesses, slot: int) -> str | None:
    """Of the newest process of a slot."""
    found = re.findall(rf"started pool-{slot}, pid (\d+)", workers.log("pool"))
    return found[-1] if found else None


@pytest.mark.kafka
def test_a_pool_grows_under_load_and_shrinks_when_it_is_idle_and_nothing_is_lost(
    queue: WorkingQueue, tmp_path: Path
) -> None:
    sent = 0
    with (
        worker_processes(queue, APP, tmp_path) as workers,
        Watcher(queue.connection, queue.names) as watcher,
    ):
        # Two at once of 50 ms each: 40 a second for one process.
        options = ("--processes", "1..2", "--workers", "2", "--name", "pool")
        workers.start("pool", *options, env={"FAIRLANE_SCALE_AGE_S": "2", "FAIRLANE_SCALE_IDLE_S": "2"})

        def both_have_worked() -> bool:
            nonlocal sent
            ended = queue.terminal()
            if sent - len(ended) < 200:
                queue.send(*[queue.task("work", b'{"number":%d}' % number) for number in range(200)])
                sent += 200
            second = pid(workers, 1)
            return second is not None and any(bytes(found[0].result).decode() == second for found in ended.values())

        # It is kept busy until it was looked at: an idle one shrinks.
        shown = r"Pool pool: 2 of 1 to 2 processes; \S+ ago \S+.*: \d+% busy"
        wait_until(
            lambda: both_have_worked() and re.search(shown, pool_line(watcher)), "a monitor shows that both work"
        )
        # On a slow machine the newest word may be that two are all that are allowed, so the log is asked for the first.
        assert re.search(r"pool: 1 to 2 processes: \d+% busy", workers.log("pool"))
        queue.wait_ended(sent)
        ended = "pool-1 ended with exit code 0, as it was asked to"
        wait_until(lambda: ended in workers.log("pool"), "it shrinks")
        assert "pool: 2 to 1 processes: " in workers.log("pool")
        queue.send(*[queue.task("work", b'{"number":%d}' % number) for number in range(20)])
        sent += 20
        # The one that stays has all partitions at once: what was retired has left the group for good.
        queue.wait_ended(sent)
        workers.signal("pool", signal.SIGTERM)
        assert workers.wait("pool") == 0, workers.log("pool")
    assert Counter(len(found) for found in queue.terminal().values()) == {1: sent}
    assert "starting it again" not in workers.log("pool")


def pool_line(watcher: Watcher) -> str:
    return next((line for line in workers_lines(watcher.collect(now_ms())) if line.startswith("Pool")), "")
