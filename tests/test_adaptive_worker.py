"""A worker on a real Kafka whose concurrency adapts: held far below the most, where its handler slows down.

How near to what the handler bears, and what is gained by it, tests/test_adaptive.py says on virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from live_queue import wait_until
from working_queue import WorkingQueue, working_queue

from fairlane import Adaptive
from fairlane.monitor.snapshot import collect
from fairlane.topics.clock import now_ms

BEARS = 10
MOST = 64
COUNT = 1_500


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka) as queue:
        yield queue


class Database:
    """Answers ten at once in 20 ms; of more each takes so much longer that all together are served more slowly."""

    def __init__(self) -> None:
        self.now = 0
        self.ended: list[int] = []
        """How many calls there were when each ended."""

    async def call(self) -> None:
        self.now += 1
        await asyncio.sleep(0.02 * max(1.0, self.now / BEARS) ** 1.5)
        self.ended.append(self.now)
        self.now -= 1


@pytest.mark.kafka
def test_a_handler_that_slows_down_is_held_far_below_the_most_and_a_monitor_sees_it(queue: WorkingQueue) -> None:
    database = Database()
    queue.send(*[queue.task("call") for _ in range(COUNT)])
    with queue.worker(database.call, policies={"call": {"concurrency": Adaptive(min=2, max=MOST)}}, concurrency=MOST):
        wait_until(lambda: len(database.ended) >= COUNT * 0.75, "most calls")
        (seen,) = collect(queue.connection, queue.names, now_ms=now_ms()).types
        assert 2 <= seen.limit < MOST
        ended = queue.wait_ended(COUNT)
    assert all(len(found) == 1 for found in ended.values())
    at_once = sum(database.ended[COUNT // 2 :]) / (COUNT - COUNT // 2)
    assert 2 < at_once < MOST * 0.6, "the second half, when the limit is what it comes to be"
