"""A worker on a real Kafka whose concurrency adapts: held near what its handler bears, and no slower for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from live_queue import wait_until
from working_queue import WorkingQueue, working_queue

from fairlane import Adaptive
from fairlane.monitor.snapshot import collect
from fairlane.topics.clock import now_ms

BEARS = 10
MOST = 64


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka) as queue:
        yield queue


class Database:
    """Answers ten at once in 20 ms; of more each takes so much longer that all together are served more slowly."""

    def __init__(self) -> None:
        self.now = 0
        self.ended: list[tuple[float, int]] = []
        """When each call ended, and how many there were then."""

    async def call(self) -> None:
        self.now += 1
        await asyncio.sleep(0.02 * max(1.0, self.now / BEARS) ** 1.5)
        self.ended.append((time.monotonic(), self.now))
        self.now -= 1

    def settled(self) -> list[tuple[float, int]]:
        """The calls of the second half, when the concurrency is what it comes to be."""
        return self.ended[len(self.ended) // 2 :]

    @property
    def at_once(self) -> float:
        return sum(now for _, now in self.settled()) / len(self.settled())

    @property
    def per_s(self) -> float:
        return (len(self.settled()) - 1) / (self.settled()[-1][0] - self.settled()[0][0])


def work(queue: WorkingQueue, concurrency: int | Adaptive, count: int) -> Database:
    """Let a worker call the database so many times."""
    database = Database()
    before = len(queue.terminal())
    queue.send(*[queue.task("call") for _ in range(count)])
    with queue.worker(database.call, policies={"call": {"concurrency": concurrency}}, concurrency=MOST):
        wait_until(lambda: len(database.ended) >= count * 0.75, "most calls", timeout_s=60)
        (seen,) = collect(queue.connection, queue.names, now_ms=now_ms()).types
        assert (seen.limit > 0) == isinstance(concurrency, Adaptive)
        assert seen.limit < MOST
        queue.wait_ended(before + count)
    return database


@pytest.mark.kafka
def test_a_handler_that_slows_down_is_held_near_what_it_bears_and_gets_more_done_than_at_a_fixed_concurrency(
    queue: WorkingQueue,
) -> None:
    adaptive, fixed = work(queue, Adaptive(min=2, max=MOST), 2_000), work(queue, MOST, 800)
    seen = f"{adaptive.per_s:.0f}/s at {adaptive.at_once:.1f}, fixed {fixed.per_s:.0f}/s at {fixed.at_once:.1f}"
    assert BEARS * 0.6 <= adaptive.at_once <= BEARS * 2.5, seen
    assert fixed.at_once >= MOST * 0.6, seen
    assert adaptive.per_s >= fixed.per_s, seen
    assert all(len(found) == 1 for found in queue.terminal().values())
