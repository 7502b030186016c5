"""One task that holds back its partition, on a real Kafka: what is done about it, and that it ends exactly once.

Method: a queue with one partition a topic, tasks that wait for a word of the test, and thousands of others behind them.
What happened is read from Kafka: committed offsets, heartbeats, and terminal events by origin.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from live_queue import records, wait_until
from typer.testing import CliRunner
from worker_processes import worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane.cli.main import app
from fairlane.consumer.batches import BatchPolicy
from fairlane.topics import events, wire
from fairlane.topics.events import Heartbeat
from fairlane.topics.held_back import HeldBack
from fairlane.topics.task import Task

pytestmark = pytest.mark.kafka

OTHERS = 3_000
SETTINGS: dict[str, Any] = {"head_of_line_records": 500, "head_of_line_s": 0.3, "concurrency": 8}


@pytest.fixture(scope="module")
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=1) as queue:
        yield queue


class Blocked:
    """A handler that runs until the test says otherwise, and how often it was started."""

    def __init__(self) -> None:
        self.starts = 0
        self._may_end = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def slow(self, number: int) -> int:
        self.starts += 1
        self._loop = asyncio.get_running_loop()
        await self._may_end.wait()
        return number

    def wait(self, starts: int) -> None:
        wait_until(lambda: self.starts == starts, f"{starts} run")

    def release(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._may_end.set)


async def quick(number: int) -> int:
    return number


def send_slow(queue: WorkingQueue, count: int) -> list[Task]:
    tasks = [queue.task("slow", b'{"number":%d}' % number) for number in range(count)]
    queue.send(*tasks)
    return tasks


def quicks(queue: WorkingQueue, count: int) -> list[Task]:
    return [queue.task("quick", b'{"number":%d}' % number) for number in range(count)]


def send_quick(queue: WorkingQueue) -> None:
    queue.send(*quicks(queue, OTHERS))


def beats(queue: WorkingQueue) -> list[Heartbeat]:
    """The newest heartbeat of every worker, in the order of their times."""
    newest = {}
    for message in records(queue.bootstrap, queue.names.workers):
        beat = events.decode_heartbeat(message.value() or b"")
        if beat is not None:
            newest[beat.worker] = beat
    return sorted(newest.values(), key=lambda beat: beat.at_ms)


def held_back(queue: WorkingQueue) -> tuple[HeldBack, ...]:
    """What the newest heartbeat says."""
    return beats(queue)[-1].held_back


def wait_shown(queue: WorkingQueue) -> HeldBack:
    """Wait for a heartbeat that says so and has seen all others finished: one is up to a second older than the end."""
    wait_until(lambda: [held for held in held_back(queue) if held.finished >= OTHERS], "a heartbeat says so")
    (held,) = held_back(queue)
    return held


def lag(queue: WorkingQueue) -> int:
    """How far the lane is from being settled to its end, in Kafka's own eyes."""
    return queue.lag().get((queue.names.lane(3), 0), 0)


def assert_once(queue: WorkingQueue, count: int, *tasks: Task) -> None:
    """So many origins have a terminal event, each has one, and the tasks have completed."""
    ended = queue.wait_ended(count)
    assert len(ended) == count
    assert Counter(len(found) for found in ended.values()) == {1: count}
    assert [[event.state for event in queue.events(task.id)] for task in tasks] == [["completed"]] * len(tasks)


def said(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [text for record in caplog.records if words in (text := record.getMessage())]


def test_a_running_task_that_holds_back_its_partition_is_moved_aside_and_completes_once(
    queue: WorkingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    before, blocked = len(queue.terminal()), Blocked()
    with caplog.at_level(logging.INFO, "fairlane.heads"), queue.worker(blocked.slow, quick, **SETTINGS):
        (task,) = send_slow(queue, 1)
        blocked.wait(1)
        send_quick(queue)
        queue.wait_ended(before + OTHERS)
        wait_until(lambda: lag(queue) == 0, "the partition is settled to its end")
        assert queue.running(task.id)
        assert not queue.events(task.id)
        blocked.release()
        assert_once(queue, before + OTHERS + 1, task)
        wait_until(lambda: not queue.lag(), "all is settled")
    assert blocked.starts == 1
    (told,) = said(caplog, "moved aside")
    assert f"task {task.id} (slow) has been running for" in told


def test_by_policy_it_is_only_shown_by_name_and_age(queue: WorkingQueue, caplog: pytest.LogCaptureFixture) -> None:
    before, blocked = len(queue.terminal()), Blocked()
    policies = {"slow": {"head_of_line": "show"}}
    where = {"FAIRLANE_QUEUE_URL": f"kafka://{queue.bootstrap}/{queue.names.queue}"}
    with (
        caplog.at_level(logging.INFO, "fairlane.heads"),
        queue.worker(blocked.slow, quick, policies=policies, **SETTINGS),
    ):
        (task,) = send_slow(queue, 1)
        blocked.wait(1)
        send_quick(queue)
        queue.wait_ended(before + OTHERS)
        held = wait_shown(queue)
        assert (held.id, held.type, held.state, held.outage) == (task.id, "slow", "running", False)
        assert (held.partition, held.unfinished) == (f"{queue.names.lane(3)}/0", 1)
        line = f"{queue.names.lane(3)}[0]: task {task.id} (slow) has been running for"
        for command in (["workers"], ["monitor", "--once"]):
            shown = CliRunner().invoke(app, command, env=where)
            assert any(each.startswith(line) for each in shown.stdout.splitlines()), shown.output
        assert lag(queue) > OTHERS
        blocked.release()
        assert_once(queue, before + OTHERS + 1, task)
        wait_until(lambda: not queue.lag() and not held_back(queue), "all is settled, and nothing shown")
    assert len(said(caplog, line)) == 1, "once, and then with a back-off"
    assert not said(caplog, "moved aside")


def test_tasks_that_wait_for_a_limit_of_their_type_go_to_the_end_of_their_line(queue: WorkingQueue) -> None:
    before, blocked = len(queue.terminal()), Blocked()
    with queue.worker(blocked.slow, quick, policies={"slow": {"concurrency": 1}}, **SETTINGS):
        tasks = send_slow(queue, 5)
        blocked.wait(1)
        send_quick(queue)
        queue.wait_ended(before + OTHERS)
        wait_until(lambda: lag(queue) <= 20, "only those that wait are left in the partition")
        assert blocked.starts == 1
        blocked.release()
        assert_once(queue, before + OTHERS + 5, *tasks)
        wait_until(lambda: not queue.lag(), "all is settled")
    assert blocked.starts == 5


def test_in_an_outage_nothing_is_moved(queue: WorkingQueue, caplog: pytest.LogCaptureFixture) -> None:
    before, blocked = len(queue.terminal()), Blocked()
    with (
        caplog.at_level(logging.INFO, "fairlane.heads"),
        queue.worker(blocked.slow, quick, **{**SETTINGS, "concurrency": 100}),
    ):
        tasks = send_slow(queue, 80)
        blocked.wait(80)
        send_quick(queue)
        queue.wait_ended(before + OTHERS)
        held = wait_shown(queue)
        assert held.outage
        assert held.unfinished == 80
        assert lag(queue) > OTHERS, "the first of them is where it was"
        blocked.release()
        assert_once(queue, before + OTHERS + 80, *tasks)
        wait_until(lambda: not queue.lag(), "all is settled")
    assert blocked.starts == 80
    assert said(caplog, "80 of")
    assert not said(caplog, "moved aside")


def test_the_members_of_a_batch_are_moved_aside_each_by_itself(queue: WorkingQueue) -> None:
    before, blocked = len(queue.terminal()), Blocked()

    async def many(numbers: list[int]) -> list[int]:
        await blocked.slow(0)
        return numbers

    with queue.worker(quick, many, policies={"many": {"batch": BatchPolicy(max_size=3)}}, **SETTINGS):
        tasks = [queue.task("many", b"%d" % number) for number in range(3)]
        queue.send(*tasks)
        blocked.wait(1)
        send_quick(queue)
        queue.wait_ended(before + OTHERS)
        wait_until(lambda: lag(queue) == 0, "the partition is settled to its end")
        blocked.release()
        assert_once(queue, before + OTHERS + 3, *tasks)
        wait_until(lambda: not queue.lag(), "all is settled")
    assert blocked.starts == 1


APP = """
import asyncio, os, pathlib
from fairlane import Fairlane
from fairlane.consumer.aside import Aside
from fairlane.consumer.transaction import TransactionalProducer

app = Fairlane("{queue}")
here = pathlib.Path(__file__).parent
dies = os.environ.get("DIES", "")
run, arrived = TransactionalProducer.run, Aside.arrived

def dying_run(self, records, offsets, lease):
    moves = any(record.topic.endswith(".retry-1s") for _, record in records)
    if moves and dies == "before the move":
        os._exit(9)
    run(self, records, offsets, lease)
    if moves and dies == "after the move":
        os._exit(9)

def dying_arrived(self, copy):
    found = arrived(self, copy)
    if found is not None and dies == "when the copy is read":
        os._exit(9)
    return found

TransactionalProducer.run, Aside.arrived = dying_run, dying_arrived

@app.task
async def slow(number: int) -> int:
    while not (here / "go").exists():
        await asyncio.sleep(0.05)
    return number

@app.task
async def quick(number: int) -> int:
    return number
"""

STEPS = ("before the move", "after the move", "when the copy is read")


def test_whenever_its_worker_is_killed_it_completes_once(kafka: str, tmp_path: Path) -> None:
    """Three workers with a partition each, each dies by itself at another step; a fourth runs what they left."""
    env = {
        "FAIRLANE_HEAD_OF_LINE_RECORDS": "500",
        "FAIRLANE_HEAD_OF_LINE_S": "0.3",
        "FAIRLANE_WORKER_LOST_MAX": "20",
    }
    with working_queue(kafka, partitions=3) as queue, worker_processes(queue, APP, tmp_path) as workers:
        for name in STEPS:
            workers.start(name, env={**env, "DIES": name})
        lane = queue.names.lane(3)
        wait_until(
            lambda: (
                sorted(sum(each.startswith(lane) for each in beat.partitions) for beat in beats(queue)) == [1, 1, 1]
            ),
            "each has a partition",
        )
        tasks = [queue.task("slow", b'{"number":%d}' % number) for number in range(3)]
        send_in_turn(queue, tasks, partitions=3)
        wait_until(lambda: all(queue.running(task.id) for task in tasks), "they run")
        send_in_turn(queue, quicks(queue, OTHERS), partitions=3)
        assert [workers.wait(name) for name in STEPS] == [9, 9, 9]
        workers.start("fourth", env=env)
        queue.wait_ended(OTHERS)
        assert not any(queue.events(task.id) for task in tasks)
        (tmp_path / "go").touch()
        assert_once(queue, OTHERS + 3, *tasks)
        wait_until(lambda: not queue.lag(), "all is settled")
        assert workers.stop_all() == {"fourth": 0}


def send_in_turn(queue: WorkingQueue, tasks: list[Task], *, partitions: int) -> None:
    """Write tasks to the partitions of their lane in turn."""
    producer = Producer(queue.connection.producer(linger_ms=2))
    for number, task in enumerate(tasks):
        producer.produce(
            task.lane, task.value, task.key, partition=number % partitions, headers=list(wire.encode(task))
        )
        producer.poll(0)
    assert producer.flush(30) == 0


def test_moved_aside_while_partitions_come_and_go_each_completes_once(kafka: str, tmp_path: Path) -> None:
    """A second worker joins while one task is aside, is killed, and the first has everything again."""
    with working_queue(kafka, partitions=2) as queue, worker_processes(queue, APP, tmp_path) as workers:
        blocked = Blocked()
        env = {"FAIRLANE_HEAD_OF_LINE_RECORDS": "500", "FAIRLANE_HEAD_OF_LINE_S": "0.3"}
        with queue.worker(blocked.slow, quick, **SETTINGS, worker_lost_max=20, revoke_grace_s=0.5):
            tasks = [queue.task("slow", b'{"number":%d}' % number) for number in range(2)]
            send_in_turn(queue, tasks, partitions=2)
            blocked.wait(2)
            send_in_turn(queue, quicks(queue, OTHERS), partitions=2)
            queue.wait_ended(OTHERS)
            wait_until(lambda: not any(topic == queue.names.lane(3) for topic, _ in queue.lag()), "both are aside")
            workers.start("second", env=env)
            wait_until(lambda: [len(beat.partitions) for beat in beats(queue)] == [11, 11], "both work")
            send_in_turn(queue, quicks(queue, 500), partitions=2)
            queue.wait_ended(OTHERS + 500)
            workers.signal("second", signal.SIGKILL)
            workers.wait("second")
            wait_until(lambda: len(beats(queue)[-1].partitions) == 22, "the first has everything again")
            blocked.release()
            assert_once(queue, OTHERS + 502, *tasks)
            wait_until(lambda: not queue.lag(), "all is settled")
