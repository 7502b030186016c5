"""What operators ask is obeyed: by workers that run, within a second, and by those that start later, from the first task.

What do these tests do? They write what the commands write, to a real Kafka, and count what runs and what becomes of it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from live_queue import records, wait_until
from working_queue import WorkingQueue, working_queue

from fairlane.consumer.context import context
from fairlane.consumer.pool import WorkerPool
from fairlane.monitor.control import Controller
from fairlane.topics.control import CANCEL

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=2) as made:
        yield made


def operator(queue: WorkingQueue) -> Controller:
    return Controller(queue.connection, queue.names, queue.lanes, who="ann@test", via="cli", timeout_s=20)


class Doing:
    """Handlers that say what they did."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.begun = threading.Event()
        self.heard = threading.Event()

    async def quick(self) -> str:
        self.ran.append(context().task.id)
        return "done"

    async def waits(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.heard.set()
            raise

    def blocks(self) -> None:
        self.begun.set()
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at:
            if context().cancelled:
                self.heard.set()
            time.sleep(0.01)

    def stops(self) -> str:
        self.begun.set()
        while not context().cancelled:
            time.sleep(0.001)
        return "in time"


def bound(queue: WorkingQueue) -> list[bytes | None]:
    """Cancels that are in force, by their keys."""
    newest = {message.key(): message.value() for message in records(queue.bootstrap, queue.names.control)}
    return [key for key, value in newest.items() if value is not None and (key or b"").startswith(CANCEL.encode())]


def test_what_was_cancelled_while_nobody_worked_never_runs_and_the_cancel_is_over_then(queue: WorkingQueue) -> None:
    doing = Doing()
    tasks = [queue.task("quick") for _ in range(20)]
    later = queue.task("quick", not_before_ms=int(time.time() * 1000) + 1_500)
    queue.send(*tasks)
    queue.send(later, topic=f"{queue.names.queue}.retry-1s")
    answers = operator(queue).cancel([task.id for task in (*tasks[::2], later)], reason="not needed")
    assert {answer.found for answer in answers} == {"pending"}
    with queue.worker(doing.quick):
        for task in (*tasks[::2], later):
            event = queue.wait_event(task, "cancelled")
            assert event.reason == "by ann@test: not needed"
            assert event.started_ms == 0
        for task in tasks[1::2]:
            queue.wait_event(task, "completed")
        wait_until(lambda: not bound(queue), "the cancels are taken back")
    assert sorted(doing.ran) == sorted(task.id for task in tasks[1::2])
    assert not queue.letters()
    (answer,) = operator(queue).cancel([tasks[0].id])
    assert (answer.found, answer.state, answer.asked) == ("ended", "cancelled", False)


@pytest.mark.parametrize("kind", ["waits", "blocks"])
def test_a_task_that_runs_is_cut_off_and_has_not_failed(queue: WorkingQueue, kind: str) -> None:
    doing = Doing()
    with queue.worker(getattr(doing, kind)):
        task = queue.task(kind)
        queue.send(task)
        assert doing.begun.wait(20)
        operator(queue).cancel([task.id])
        event = queue.wait_event(task, "cancelled")
        assert doing.heard.is_set()
        assert event.started_ms > 0
        assert event.attempt == 1
        wait_until(lambda: not bound(queue), "the cancel is taken back")
    assert [each.state for each in queue.events(task.id)] == ["cancelled"]


def test_what_is_through_before_it_hears_of_it_is_completed(queue: WorkingQueue) -> None:
    doing = Doing()
    with queue.worker(doing.stops, doing.quick, concurrency=2):
        task = queue.task("stops")
        queue.send(task)
        assert doing.begun.wait(20)
        operator(queue).cancel([task.id])
        wait_until(lambda: queue.events(task.id), "it ends")
    assert queue.events(task.id)[-1].state in ("completed", "cancelled")
    assert not bound(queue)


def test_an_id_that_is_enqueued_again_after_its_cancel_runs(queue: WorkingQueue) -> None:
    doing = Doing()
    first = queue.task("quick")
    queue.send(first)
    operator(queue).cancel([first.id])
    again = queue.task("quick", task_id=first.id)
    queue.send(again)
    with queue.worker(doing.quick):
        wait_until(lambda: len(queue.events(first.id)) == 2, "both have an outcome")
    assert sorted(event.state for event in queue.events(first.id)) == ["cancelled", "completed"]
    assert doing.ran == [first.id]


def test_a_paused_lane_waits_others_run_and_it_goes_on(queue: WorkingQueue) -> None:
    doing = Doing()
    control = operator(queue)
    with queue.worker(doing.quick, start_wait_s=5.0) as pool:
        control.pause("p3", reason="slow down")
        wait_until(lambda: paused(pool), "the worker has heard")
        held = [queue.task("quick") for _ in range(30)]
        others = [queue.task("quick", level=5) for _ in range(30)]
        queue.send(*held, *others)
        for task in others:
            queue.wait_event(task, "completed")
        assert set(doing.ran) == {task.id for task in others}
        control.resume("p3")
        for task in held:
            queue.wait_event(task, "completed")
        wait_until(lambda: not queue.lag(), "all is settled")


def test_a_queue_that_is_paused_while_nobody_works_stays_so_and_ends_by_itself(queue: WorkingQueue) -> None:
    doing = Doing()
    control = operator(queue)
    tasks = [queue.task("quick", level=level) for level in range(1, 6)]
    control.pause(reason="maintenance")
    queue.send(*tasks)
    with queue.worker(doing.quick) as pool:
        assert paused(pool)
        began = time.monotonic()
    assert time.monotonic() - began < 5, "a paused worker ends at once"
    assert not doing.ran
    control.pause(until_ms=int(time.time() * 1000) + 1_000)
    with queue.worker(doing.quick):
        for task in tasks:
            queue.wait_event(task, "completed")
    assert len(doing.ran) == 5


def paused(pool: WorkerPool) -> bool:
    assert pool._worker is not None
    return bool(pool._worker._control.paused.lanes)
