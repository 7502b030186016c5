"""What operators ask is obeyed: by workers that run, and by those that start later, from the first task.

What do these tests do? They write what the commands write, to a real Kafka, and count what runs and what becomes of it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import process_tasks
import pytest
from confluent_kafka.admin import AdminClient
from live_queue import records, wait_until
from worker_processes import worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane import Fairlane, Settings, TaskCancelled
from fairlane.consumer.context import context
from fairlane.consumer.orders import Orders
from fairlane.consumer.pool import WorkerPool
from fairlane.monitor.control import Controller
from fairlane.topics.control import CANCEL
from fairlane.topics.control_errors import NoControl
from fairlane.topics.events import decode_heartbeat
from fairlane.topics.names import DEFAULT_TIERS

pytestmark = pytest.mark.kafka

PARTITIONS = 2
ALL = PARTITIONS * (5 + len(DEFAULT_TIERS))

APP = """
from fairlane import Fairlane

app = Fairlane("{queue}")

@app.task("noted")
async def noted() -> None:
    pass
"""


@pytest.fixture(scope="module")
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=PARTITIONS) as made:
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

    async def mail(self, to: str = "", amount: int = 0) -> str:
        return await self.quick()

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
        try:
            while time.monotonic() < ends_at:
                time.sleep(0.01)
        finally:
            if context().cancelled:
                self.heard.set()

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


def test_a_task_in_a_child_process_is_cut_off_with_it(queue: WorkingQueue, tmp_path: Path) -> None:
    started = tmp_path / "started"
    with queue.worker(process_tasks.spin, policies={"spin": {"isolation": "process"}}):
        task = queue.task("spin", msgspec.json.encode({"started": str(started)}))
        queue.send(task)
        wait_until(started.exists, "it runs", timeout_s=40)
        operator(queue).cancel([task.id])
        assert queue.wait_event(task, "cancelled").attempt == 1


def test_who_waits_for_the_result_is_told_that_it_was_cancelled(queue: WorkingQueue) -> None:
    doing = Doing()
    app = Fairlane(queue.names.queue, settings=Settings(queue_url=f"kafka://{queue.bootstrap}"))
    with app, queue.worker(doing.waits):
        handle = app.enqueue("waits", reply=True)
        assert doing.begun.wait(20)
        (answer,) = app.control.cancel(handle.id, reason="too late")
        assert answer.found in ("running", "pending")
        with pytest.raises(TaskCancelled, match=r"was cancelled by .*too late"):
            handle.result(timeout_s=20)


def test_a_paused_queue_stays_paused_when_workers_die_and_partitions_move(queue: WorkingQueue, tmp_path: Path) -> None:
    control = operator(queue)
    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("a", "--name", "pa")
        wait_until(lambda: held_by(queue, "pa") > 0, "the first has partitions", timeout_s=60)
        control.pause()
        tasks = [queue.task("noted") for _ in range(10)]
        queue.send(*tasks)
        workers.start("b", "--name", "pb")
        wait_until(lambda: held_by(queue, "pb") > 0, "the second has some too", timeout_s=60)
        workers.signal("a", signal.SIGKILL)
        wait_until(lambda: held_by(queue, "pb") == ALL, "the second has all", timeout_s=60)
        assert sum(queue.lag().values()) >= 10
        assert not any(queue.events(task.id) for task in tasks)
        control.resume()
        for task in tasks:
            assert queue.wait_event(task, "completed", timeout_s=60).attempt == 1
        assert workers.stop_all() == {"b": 0}


def test_an_older_queue_without_the_topic_is_worked_on_and_nobody_can_control_it(
    kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    doing = Doing()
    with working_queue(kafka, partitions=1) as older:
        admin = AdminClient({"bootstrap.servers": kafka})
        for deleted in admin.delete_topics([older.names.control]).values():
            deleted.result(20)
        with older.worker(doing.quick):
            task = older.task("quick")
            older.send(task)
            older.wait_event(task, "completed")
        with pytest.raises(NoControl, match="topics create"):
            operator(older).pause()
    assert [line for line in caplog.messages if "cannot be paused" in line] == [
        f"this worker cannot be paused, and no task of it cancelled: there is no topic {older.names.control}; "
        "`fairlane topics create` makes it"
    ]


def test_what_is_through_before_it_hears_of_it_is_completed(queue: WorkingQueue) -> None:
    doing = Doing()
    with queue.worker(doing.stops, doing.quick, concurrency=2):
        task = queue.task("stops")
        queue.send(task)
        assert doing.begun.wait(20)
        operator(queue).cancel([task.id])
        wait_until(lambda: queue.events(task.id), "it ends")
    assert queue.events(task.id)[-1].state in ("completed", "cancelled")
    wait_until(lambda: not bound(queue), "the cancel is taken back")


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


def test_a_paused_type_waits_with_all_workers_down_and_up_and_nothing_behind_it_does(queue: WorkingQueue) -> None:
    doing = Doing()
    control = operator(queue)
    control.pause(task_type="mail", reason="the provider is down")
    mails = [queue.task("mail") for _ in range(30)]
    later = queue.task("mail", not_before_ms=int(time.time() * 1000) + 500)
    others = [queue.task("quick") for _ in range(10)]
    queue.send(*mails, *others)
    queue.send(later, topic=f"{queue.names.queue}.retry-1s")
    with queue.worker(doing.quick, doing.mail) as pool:
        for task in others:
            queue.wait_event(task, "completed")
        wait_until(lambda: standing_by(pool) == 31, "all of them have stepped aside")
        assert set(doing.ran) == {task.id for task in others}
        control.resume(task_type="mail")
        for task in (*mails, later):
            assert queue.wait_event(task, "completed").attempt == 1
        wait_until(lambda: not queue.lag(), "all is settled")


def test_a_kill_switch_ends_what_fits_it_and_its_letters_can_be_put_back(queue: WorkingQueue) -> None:
    doing = Doing()
    control = operator(queue)
    control.kill("mail", "drop", where='/to = "x@y"', reason="spam")
    control.kill("mail", "dlq", where="header:tenant = acme", reason="not paid")
    control.kill("mail", "park", where="/amount > 100")
    spam, unpaid = queue.task("mail", b'{"to":"x@y"}'), queue.task("mail", headers=(("tenant", b"acme"),))
    large, good = queue.task("mail", b'{"amount":101}'), queue.task("mail", b'{"to":"z","amount":99}')
    queue.send(spam, unpaid, large, good)
    before = len(queue.letters())
    with queue.worker(doing.quick, doing.mail) as pool:
        assert queue.wait_event(spam, "cancelled").reason == "by ann@test: spam"
        dead = queue.wait_event(unpaid, "failed")
        assert (dead.reason, dead.attempt, dead.error and dead.error.message) == ("killed", 1, "by ann@test: not paid")
        queue.wait_event(good, "completed")
        wait_until(lambda: standing_by(pool) == 1, "one waits")
        assert len(queue.letters()) == before + 1
        control.unkill("mail", where="/amount > 100")
        queue.wait_event(large, "completed")
        assert doing.ran == [good.id, large.id]
        assert {each.where for each in control.unkill("mail")} == {'/to = "x@y"', "header:tenant = acme"}
        again = queue.task("mail", b'{"to":"x@y"}')
        wait_until(lambda: not orders(pool).types, "the worker has heard")
        queue.send(again)
        queue.wait_event(again, "completed")


def test_a_demoted_type_is_moved_to_the_lower_lane_at_no_attempts_cost(queue: WorkingQueue) -> None:
    doing = Doing()
    control = operator(queue)
    control.demote("mail", "p1", reason="a campaign")
    mails, other = [queue.task("mail", level=5) for _ in range(5)], queue.task("quick", level=5)
    queue.send(*mails, other)
    with queue.worker(doing.quick, doing.mail):
        for task in mails:
            event = queue.wait_event(task, "completed")
            assert (event.lane, event.attempt) == (queue.names.lane(1), 1)
            assert event.topic == queue.names.lane(1)
        assert queue.wait_event(other, "completed").lane == queue.names.lane(5)
        wait_until(lambda: not queue.lag(), "all is settled")
        control.undemote("mail")


def test_weights_hold_from_the_first_task_and_while_a_worker_runs(queue: WorkingQueue) -> None:
    doing = Doing()
    control = operator(queue)
    control.weigh({"p5": 1, "p3": 1, "1": 2}, reason="let them share")
    urgent, others = [queue.task("quick", level=5) for _ in range(12)], [queue.task("quick") for _ in range(12)]
    queue.send(*urgent, *others)
    with queue.worker(doing.quick, concurrency=1, start_wait_s=10.0) as pool:
        for task in (*urgent, *others):
            queue.wait_event(task, "completed")
        levels = ["p5" if task_id in {task.id for task in urgent} else "p3" for task_id in doing.ran]
        assert levels == ["p5", "p3"] * 12
        assert {each.lane: each.weight for each in control.unweigh(["p5", "p3"])} == {
            queue.names.lane(5): 1, queue.names.lane(3): 1
        }  # fmt: skip
        assert pool._worker is not None
        worker = pool._worker
        wait_until(lambda: worker._control.orders.weights == ((queue.names.lane(1), 2),), "the worker has heard")
        control.unweigh()
        wait_until(lambda: not worker._control.orders.weights, "of all of them")


def held_by(queue: WorkingQueue, worker: str) -> int:
    """How many partitions of the queue a worker says that it holds now."""
    newest = 0
    for message in records(queue.bootstrap, queue.names.workers):
        beat = decode_heartbeat(message.value() or b"")
        if beat is not None and beat.worker == worker:
            newest = len(beat.partitions)
    return newest


def orders(pool: WorkerPool) -> Orders:
    assert pool._worker is not None
    return pool._worker._control.orders


def standing_by(pool: WorkerPool) -> int:
    assert pool._worker is not None
    return pool._worker._engine.feed.places.standing_by


def paused(pool: WorkerPool) -> bool:
    assert pool._worker is not None
    return bool(pool._worker._control.orders.lanes)
