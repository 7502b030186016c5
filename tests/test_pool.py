"""The brief's WorkerPool where it needs no Kafka: one task, run now."""

from __future__ import annotations

import asyncio
import threading

from waiting import wait_until
from worker_parts import config, task

from fairlane.consumer.outcome import Completed
from fairlane.consumer.pool import WorkerPool


def test_a_task_that_is_processed_now_leaves_no_thread_behind() -> None:
    names: list[str] = []

    def send() -> int:
        names.append(threading.current_thread().name)
        return 7

    before = set(threading.enumerate())
    pool = WorkerPool(config())
    pool.register_handler("send", send)
    outcome = asyncio.run(pool.process(task("send")))
    assert isinstance(outcome, Completed)
    assert outcome.result == b"7"
    assert names[0].startswith("fairlane-handler")
    wait_until(lambda: set(threading.enumerate()) <= before, "its thread ends")
