"""How a worker ends when it is asked before it has begun, or when it fails while it ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from waiting import wait_until
from worker_parts import config
from working_queue import WorkingQueue, working_queue

from fairlane.consumer.handlers import Handler
from fairlane.consumer.worker import Worker
from fairlane.topics.payload import Signature


def test_a_worker_that_is_asked_to_end_before_it_runs_does_not_begin() -> None:
    """Kafka is not even looked for: there is none at this address."""
    worker = Worker(config(), {})
    worker.stop()
    assert asyncio.run(worker.run()) == 0
    assert not worker.ready.is_set()


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka) as queue:
        yield queue


@pytest.mark.kafka
def test_a_worker_that_is_asked_to_end_while_it_looks_at_its_queue_does_not_begin(
    queue: WorkingQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(queue.config(), {})
    check = worker._check

    def ask_meanwhile() -> None:
        worker.stop()
        check()

    monkeypatch.setattr(worker, "_check", ask_meanwhile)
    assert asyncio.run(worker.run()) == 0
    assert not worker.ready.is_set()


@pytest.mark.kafka
def test_a_worker_that_fails_while_it_drains_does_not_wait_for_the_grace(queue: WorkingQueue) -> None:
    runs = threading.Event()

    async def long() -> None:
        runs.set()
        await asyncio.sleep(600)

    handler = Handler("long", long, Signature.of(long, task_type="long"))
    worker = Worker(queue.config(grace_s=600.0), {"long": handler})

    async def main() -> float:
        running = asyncio.create_task(worker.run())
        assert await asyncio.to_thread(runs.wait, 90)
        worker.stop()
        await asyncio.to_thread(wait_until, lambda: worker._executor._draining, "it to drain")
        await asyncio.to_thread(worker._crashed, ZeroDivisionError("the settler"))
        fell_at = time.monotonic()
        with pytest.raises(ZeroDivisionError):
            await running
        return time.monotonic() - fell_at

    queue.send(queue.task("long"))
    assert asyncio.run(main()) < 200
