"""Batch handlers of workers on a real Kafka: how many run together, and that each task ends once and for itself.

Counted is what a read_committed reader finds in the status topic, by the origin that each event names.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_queue import headers_of, wait_until
from worker_processes import worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane import BatchPolicy, Reject, RetryPolicy, context
from fairlane.topics.task import Task

pytestmark = pytest.mark.kafka

SOON = RetryPolicy(max_attempts=4, base_s=0.1, factor=1, jitter=0)

APP = """
import asyncio, os
from pathlib import Path
from fairlane import BatchPolicy, Fairlane

app = Fairlane("{queue}")

@app.task(batch=BatchPolicy(max_size=50, max_wait_s=2))
async def index(numbers: list[int]) -> list[int]:
    with Path("batches").open("a") as file:
        file.write(f"{len(numbers)} {sorted(numbers)}\\n")
    if not Path("release").exists():
        await asyncio.sleep(60)
    if -1 in numbers:
        os._exit(9)
    return numbers
"""


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka) as queue:
        yield queue


def numbered(queue: WorkingQueue, *numbers: int) -> list[Task]:
    return [queue.task("index", b"%d" % number) for number in numbers]


def assert_each_completed_once(queue: WorkingQueue, count: int, *, attempt: int = 1) -> None:
    ended = queue.wait_ended(count)
    assert Counter(len(found) for found in ended.values()) == {1: count}
    assert {(found[0].state, found[0].attempt) for found in ended.values()} == {("completed", attempt)}


def test_batches_are_as_large_as_they_may_be_and_the_rest_waits_no_longer_than_it_may(queue: WorkingQueue) -> None:
    seen: list[int] = []
    starts: list[float] = []

    async def index(numbers: list[int]) -> list[int]:
        seen.append(len(numbers))
        starts.append(time.monotonic())
        return [number * 2 for number in numbers]

    tasks = numbered(queue, *range(230))
    queue.send(*tasks)
    policies = {"index": {"batch": BatchPolicy(max_size=100, max_wait_s=0.5), "concurrency": 2}}
    with queue.worker(index, policies=policies, start_wait_s=20):
        assert_each_completed_once(queue, 230)
        for task in (tasks[0], tasks[229]):
            assert bytes(queue.events(task.id)[0].result) == b"%d" % (int(task.payload) * 2)
        assert seen == [100, 100, 30]
        began = time.monotonic()
        queue.send(*numbered(queue, 1))
        queue.wait_ended(231)
        assert starts[3] - began >= 0.5, "it waited for company"
        wait_until(lambda: not queue.lag(), "lag 0")


def test_a_bad_item_and_a_failed_one_die_alone(queue: WorkingQueue) -> None:
    seen: list[list[int]] = []

    def index(numbers: list[int]) -> list[int | Exception]:
        seen.append(numbers)
        for number, one in zip(numbers, context().each, strict=True):
            one.emit(queue.names.lane(1), b"%d" % number, headers=[("ce_type", "next"), ("ce_id", f"next-{number}")])
        return [Reject("not me") if number == 13 else number for number in numbers]

    async def next(number: int = 0) -> None: ...  # noqa: A001

    bad = queue.task("index", b'"many"')
    good = numbered(queue, *range(20))
    queue.send(bad, *good)
    with queue.worker(index, next, policies={"index": {"batch": BatchPolicy(max_size=100, max_wait_s=0.3)}}):
        ended = queue.wait_ended(21 + 19)
    assert {len(found) for found in ended.values()} == {1}
    reasons = Counter(found[0].reason for found in ended.values() if found[0].type == "index")
    assert reasons == {"": 19, "invalid_payload": 1, "rejected": 1}
    assert sorted(number for batch in seen for number in batch) == list(range(20))
    letters = {headers_of(letter)["fairlane-reason"] for letter in queue.letters()}
    assert letters >= {b"invalid_payload", b"rejected"}
    assert queue.events("next-13") == [], "what a task sent that failed is not sent"
    assert len(queue.events("next-12")) == 1


def test_a_batch_that_raises_is_retried_and_each_of_its_tasks_completes_once(queue: WorkingQueue) -> None:
    sizes: list[int] = []

    async def index(numbers: list[int]) -> None:
        sizes.append(len(numbers))
        if len(sizes) == 1:
            raise ConnectionError("the index is away")

    queue.send(*numbered(queue, *range(64)))
    policies = {"index": {"batch": BatchPolicy(max_size=64, max_wait_s=0.3), "retry": SOON}}
    with queue.worker(index, policies=policies, start_wait_s=20):
        assert_each_completed_once(queue, 64, attempt=2)
        wait_until(lambda: not queue.lag(), "lag 0")
    assert sizes[0] == 64
    assert max(sizes[1:]) <= 16, "64 to the 2/3: the next attempt runs among fewer"
    assert sum(sizes[1:]) == 64


def test_what_is_gathered_goes_with_its_partition_and_a_worker_that_ends_leaves_it_at_once(
    queue: WorkingQueue,
) -> None:
    gathered = threading.Event()
    sizes: list[int] = []

    async def index(numbers: list[int]) -> None:
        pytest.fail("it was not full, and its time was not over")

    queue.send(*numbered(queue, *range(40)))
    patient = {"index": {"batch": BatchPolicy(max_size=1_000, max_wait_s=600)}}
    with queue.worker(index, policies=patient) as first:
        assert first.loop is not None
        worker = first._worker
        assert worker is not None
        feed = worker._engine.feed
        wait_until(lambda: feed.waiting == 40, "all to be gathered")

        async def index(numbers: list[int]) -> None:
            sizes.append(len(numbers))
            gathered.set()

        with queue.worker(index, policies={"index": {"batch": BatchPolicy(max_size=1_000, max_wait_s=0.2)}}):
            assert gathered.wait(60), "some of the partitions come to the second worker, with what is in them"
            # It does not wait for the 600 s in which more would have come.
            assert first.stop() == 0
            assert_each_completed_once(queue, 40)
            wait_until(lambda: not queue.lag(), "lag 0")
    assert sum(sizes) == 40


def test_after_a_kill_9_in_a_batch_its_tasks_run_alone_and_one_that_kills_its_workers_dies_alone(
    queue: WorkingQueue, tmp_path: Path
) -> None:
    innocent = numbered(queue, *range(40))
    (killer,) = numbered(queue, -1)
    queue.send(*innocent[:20], killer, *innocent[20:])
    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("w0")
        wait_until(lambda: queue.running(killer.id), "the batch to run")
        assert queue.running(innocent[0].id)
        assert queue.running(innocent[39].id)
        workers.signal("w0", signal.SIGKILL)
        (tmp_path / "release").touch()
        for life in range(1, 8):
            workers.start(f"w{life}")
            wait_until(
                lambda name=f"w{life}": not workers.runs(name) or queue.events(killer.id),  # type: ignore[misc]
                "the worker is killed or the killer is dead",
            )
            if queue.events(killer.id):
                break
        ended = queue.wait_ended(41)
        assert life == 3, "three workers died, the fourth buried it"
        wait_until(lambda: not queue.lag(), "lag 0")
    assert Counter(len(found) for found in ended.values()) == {1: 41}
    assert queue.events(killer.id)[-1].reason == "worker_lost"
    assert Counter(found[0].state for found in ended.values()) == {"completed": 40, "failed": 1}
    first, *others = (tmp_path / "batches").read_text().splitlines()
    assert first.startswith("41 [-1, 0, ")
    assert {line.split()[0] for line in others} == {"1"}
    assert sum("[-1]" in line for line in others) == 2
