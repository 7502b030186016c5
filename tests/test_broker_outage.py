"""The broker goes away and comes back while tasks run: work goes on by itself, and every origin ends once."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_queue import wait_until
from worker_processes import worker_processes
from working_queue import working_queue

from fairlane.kafka import EmbeddedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.outage]

APP = """
import asyncio
from fairlane import Fairlane, RetryPolicy
app = Fairlane("{queue}")
failed = set()

@app.task(retry=RetryPolicy(max_attempts=50, base_s=0.3, factor=1))
async def work(number: int) -> int:
    await asyncio.sleep(0.01)
    if number % 5 == 0 and number not in failed:
        failed.add(number)
        raise ConnectionError("flaky")
    return number
"""


@pytest.fixture
def broker() -> Iterator[EmbeddedKafka]:
    """A broker of this test's own: it is killed."""
    with EmbeddedKafka() as kafka:
        yield kafka


OUTAGE_S = 25.0
"""Longer than the session, the transaction and every call's timeout: nothing of before is still valid."""


def test_an_outage_that_outlasts_every_timeout_is_over_when_the_broker_is_back(
    broker: EmbeddedKafka, tmp_path: Path
) -> None:
    with working_queue(broker.bootstrap) as queue:
        queue.send(*[queue.task("work", b'{"number":%d}' % number) for number in range(200)])
        with worker_processes(queue, APP, tmp_path) as workers:
            workers.start("a")
            queue.wait_ended(30)
            broker.kill(1)
            threading.Event().wait(OUTAGE_S)
            broker.restart(1)
            queue.wait_ended(200)
            wait_until(lambda: not queue.lag(), "lag 0")
            assert workers.stop_all() == {"a": 0}, workers.log("a")
        assert Counter(len(found) for found in queue.terminal().values()) == {1: 200}


def test_a_broker_that_is_killed_and_comes_back_costs_time_and_nothing_else(
    broker: EmbeddedKafka, tmp_path: Path
) -> None:
    with working_queue(broker.bootstrap) as queue:
        queue.send(*[queue.task("work", b'{"number":%d}' % number) for number in range(3_000)])
        with worker_processes(queue, APP, tmp_path) as workers:
            workers.start("a")
            workers.start("b")
            for done in (300, 900):
                queue.wait_ended(done)
                broker.kill(1)
                broker.restart(1)
            queue.wait_ended(3_000)
            wait_until(lambda: not queue.lag(), "lag 0")
            workers.signal("a", signal.SIGTERM)
            assert workers.wait("a") == 0, workers.log("a")
            assert set(workers.stop_all().values()) == {0}, workers.log("b")
        ended = queue.terminal()
        assert Counter(len(found) for found in ended.values()) == {1: 3_000}
