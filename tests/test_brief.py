"""The six test cases of the brief, under their own names, on a real broker."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_queue import wait_until
from working_queue import WorkingQueue, working_queue

import fairlane
from fairlane.consumer.context import context
from fairlane.consumer.retry import RetryPolicy

pytestmark = pytest.mark.kafka


@pytest.fixture
def made(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka) as queue:
        yield queue


@pytest.fixture
def queue(made: WorkingQueue) -> Iterator[fairlane.Queue]:
    settings = fairlane.Settings(queue_url=f"kafka://{made.bootstrap}")
    with fairlane.Queue(made.names.queue, settings=settings) as queue:
        yield queue


def test_basic_enqueue_dequeue(queue: fairlane.Queue) -> None:
    """Enqueue task → task id returned. Dequeue → task received."""
    task_id = queue.enqueue(queue.task("email", {"to": "user@example.com"}))
    task = queue.dequeue(timeout_s=10)
    assert task is not None
    assert (task.id, task.type, task.payload) == (task_id, "email", b'{"to":"user@example.com"}')
    queue.ack(task.id, {"sent": True})
    wait_until(lambda: queue.get_task(task_id).state == "completed", "it is completed")
    assert bytes(queue.get_task(task_id).result) == b'{"sent":true}'
    assert queue.dequeue(timeout_s=0.5) is None


def test_priority_ordering(queue: fairlane.Queue) -> None:
    """Enqueue P1, P5, P3. Dequeue → P5, P3, P1."""
    for priority in (1, 5, 3):
        queue.enqueue(queue.task("email", priority=priority))
    order = []
    for _ in range(3):
        task = queue.dequeue(timeout_s=10)
        assert task is not None
        order.append(task.priority)
        queue.ack(task.id)
    assert order == [5, 3, 1]


def test_worker_pool(queue: fairlane.Queue) -> None:
    """Start 5 workers, enqueue 20 tasks. All tasks processed, workers reused."""
    threads: Counter[str] = Counter()
    together = threading.Barrier(5)

    def work(number: int) -> int:
        threads[threading.current_thread().name] += 1
        if number < 5:
            together.wait(30)  # five run at once, or none goes on
        return number

    pool = fairlane.WorkerPool(queue, workers=5)
    pool.register_handler("work", work)
    handles = [queue.app.enqueue("work", {"number": number}) for number in range(20)]
    with pool:
        assert [handle.result(timeout_s=60) for handle in handles] == list(range(20))
    assert sum(threads.values()) == 20
    assert len(threads) == 5


def test_retry_logic(queue: fairlane.Queue, made: WorkingQueue) -> None:
    """Task fails with a retriable error, is retried after its backoff, and after max retries is in the DLQ."""
    starts: list[float] = []

    async def email() -> None:
        starts.append(time.time())
        raise ConnectionError("mail server away")

    pool = fairlane.WorkerPool(queue, workers=2)
    pool.register_handler("email", email, retry=RetryPolicy(max_attempts=3, base_s=0.5, factor=2, jitter=0))
    task_id = queue.enqueue(queue.task("email"))
    with pool:
        wait_until(lambda: any(event.state == "failed" for event in made.events(task_id)), "it is dead")
    first, second = starts[1] - starts[0], starts[2] - starts[1]
    assert 0.499 <= first < 1.5
    assert 0.999 <= second < 2.5
    assert queue.get_task(task_id).reason == "max_attempts"
    (letter,) = made.letters()
    assert letter.value() == b"{}"


SHUTDOWN_APP = """
import asyncio
from fairlane import Fairlane
app = Fairlane({queue!r})

@app.task()
async def work(number: int) -> int:
    await asyncio.sleep(0.5)
    return number
"""


def test_graceful_shutdown(made: WorkingQueue, tmp_path: Path) -> None:
    """Enqueue 100 tasks, start processing, SIGTERM. All in-flight tasks complete, new tasks are not started."""
    (tmp_path / "shop_app.py").write_text(SHUTDOWN_APP.format(queue=made.names.queue))
    tasks = [made.task("work", b'{"number":%d}' % number) for number in range(100)]
    made.send(*tasks)
    command = [sys.executable, "-m", "fairlane", "worker", "shop_app:app", "--workers", "10"]
    url = f"kafka://{made.bootstrap}/{made.names.queue}"
    with subprocess.Popen([*command, "--queue-url", url], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as worker:
        try:
            made.wait_ended(20)
            worker.send_signal(signal.SIGTERM)
            _, said = worker.communicate(timeout=60)
        finally:
            worker.kill()
    assert worker.returncode == 0, said
    ended = made.terminal()
    # What was running has ended, and what had not started is all still there, at no attempt's cost.
    assert len(ended) % 10 == 0
    assert len(ended) < 100
    assert all(len(found) == 1 and found[0].state == "completed" for found in ended.values())
    seen: list[int] = []

    async def work(number: int) -> int:
        seen.append(context().task.attempt)
        return number

    with made.worker(work):
        made.wait_ended(100)
    assert len(seen) == 100 - len(ended)
    assert set(seen) == {1}


def test_monitoring(queue: fairlane.Queue) -> None:
    """Process 100 tasks. Stats show 100 completed, average time, worker utilisation."""

    def work() -> None:
        time.sleep(0.01)  # the work that is timed

    pool = fairlane.WorkerPool(queue, workers=5)
    pool.register_handler("work", work)
    queue.app.enqueue_many([queue.app.call("work") for _ in range(100)])
    with pool:
        wait_until(lambda: queue.stats().completed_tasks == 100, "100 completed")
        stats = queue.stats()
    assert stats.queue_length == 0
    assert stats.running_tasks == 0
    assert stats.failed_tasks == 0
    assert 0.009 <= stats.avg_process_time_s < 5
    assert stats.worker_count == 1
    assert stats.workers[0].concurrency == 5
    assert 0 <= stats.utilisation <= 1
