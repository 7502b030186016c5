"""Handlers in child processes of a worker on a real Kafka: what dies of a handler is its child, and nothing else."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from left_behind import Mark
from live_queue import headers_of, wait_until
from worker_processes import worker_processes
from working_queue import WorkingQueue, working_queue

pytestmark = pytest.mark.kafka

APP = """
import ctypes, time
from pathlib import Path
from fairlane import Fairlane, RetryPolicy

app = Fairlane("{queue}")
soon = RetryPolicy(base_s=0.2, factor=1, jitter=0)

@app.task(isolation="process", retry=soon)
def crash() -> None:
    ctypes.string_at(0)

@app.task
async def work(number: int) -> int:
    return number

@app.task(isolation="process")
def work_apart(number: int) -> int:
    return -number

@app.task(isolation="process")
async def work_apart_async(number: int) -> int:
    return -number

@app.task(isolation="process")
def where() -> str:
    work.enqueue(1000)
    return app.connection.bootstrap

@app.task(isolation="process")
def hold(number: int) -> int:
    Path(f"started-{number}").touch()
    while not Path("release").exists():
        time.sleep(0.01)
    return number
"""


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka) as queue:
        yield queue


def test_a_task_that_crashes_its_process_is_dead_after_three_and_nobody_else_notices(
    queue: WorkingQueue, tmp_path: Path
) -> None:
    mark = Mark()
    crashing = queue.task("crash", level=5)
    others = [
        queue.task(("work", "work", "work_apart", "work_apart_async")[number % 4], b'{"number":%d}' % number)
        for number in range(200)
    ]
    where = queue.task("where")
    queue.send(crashing, where, *others)
    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("a", "--workers", "4", env=mark.environ)
        ended = queue.wait_ended(203)
        assert {len(found) for found in ended.values()} == {1}
        assert {event.state for found in ended.values() for event in found if event.id != crashing.id} == {"completed"}
        wait_until(lambda: not queue.lag(), "lag 0")
        assert workers.stop_all() == {"a": 0}
        log = workers.log("a")
    mark.wait_until_none()
    (told,) = queue.events(where.id)
    assert bytes(told.result).decode() == f'"{queue.bootstrap}"', "a child knows the options of the command"
    *tries, dead = queue.events(crashing.id)
    assert [(event.state, event.attempt) for event in tries] == [("retrying", 1)] * 2
    assert (dead.state, dead.reason, dead.attempt) == ("failed", "worker_lost", 1)
    assert dead.error is not None
    assert "SIGSEGV" in dead.error.message
    (letter,) = queue.letters()
    assert headers_of(letter)["fairlane-worker-lost"] == b"3"
    assert log.count("(worker_lost)") == 1
    after = log[log.index("crash failed and will be retried") :]
    for rebalance in ("assigned", "partitions left", "lost ", "joining again"):
        assert rebalance not in after, after


def test_a_worker_that_is_asked_to_end_waits_for_what_runs_in_processes(queue: WorkingQueue, tmp_path: Path) -> None:
    mark = Mark()
    queue.send(*[queue.task("hold", b'{"number":%d}' % number) for number in range(6)])

    def started() -> int:
        return len(list(tmp_path.glob("started-*")))

    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("a", "--workers", "2", env=mark.environ)
        wait_until(lambda: started() == 2, "two to run")
        workers.signal("a", signal.SIGTERM)
        wait_until(lambda: "ending:" in workers.log("a"), "the worker to hear of it")
        (tmp_path / "release").touch()
        assert workers.wait("a") == 0
    mark.wait_until_none()
    assert started() == 2, "nothing new was started"
    ended = queue.wait_ended(2)
    assert [event.state for found in ended.values() for event in found] == ["completed"] * 2
    assert queue.letters() == []
    assert sum(queue.lag().values()) >= 4, "the others are still there"


def test_children_that_a_burst_needed_end_when_it_is_over_and_the_next_task_runs(
    queue: WorkingQueue, tmp_path: Path
) -> None:
    mark = Mark()

    def held() -> int:
        return sum("child_main" in command for command in mark.processes().values())

    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("a", "--workers", "12", env={**mark.environ, "FAIRLANE_CHILD_IDLE_S": "1"})
        queue.send(*[queue.task("hold", b'{"number":%d}' % number) for number in range(8)])
        wait_until(lambda: len(list(tmp_path.glob("started-*"))) == 8, "all to run", timeout_s=60)
        assert held() == 8 + 4, "and one of each other handler"
        (tmp_path / "release").touch()
        queue.wait_ended(8)
        wait_until(lambda: held() == 5, "the burst's children to end", timeout_s=40)
        queue.send(queue.task("hold", b'{"number":9}'))
        queue.wait_ended(9)
        assert held() == 5
        assert workers.stop_all() == {"a": 0}
    mark.wait_until_none()
