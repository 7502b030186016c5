"""Workers that die, join, leave, freeze and fall behind: every origin has exactly one terminal event, none is missing.

Method: real worker processes, real signals, a real broker; counted is what a read_committed reader finds in the status
topic, by the origin that each event names.
"""

from __future__ import annotations

import logging
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_queue import wait_until
from properties import seed_of_dice
from worker_processes import worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane.topics.admin import TopicAdmin
from fairlane.topics.topology import Topology

pytestmark = pytest.mark.kafka

APP = """
import asyncio, ctypes, os, time
from fairlane import Fairlane, RetryPolicy
import fairlane.consumer.transaction as transaction

app = Fairlane("{queue}")

slow_s = float(os.environ.get("SLOW_SETTLER_S", "0"))
if slow_s:
    run = transaction.TransactionalProducer.run
    def slowly(self, *arguments):
        time.sleep(slow_s)
        return run(self, *arguments)
    transaction.TransactionalProducer.run = slowly

failed = set()

@app.task(retry=RetryPolicy(max_attempts=50, base_s=0.3, factor=1))
async def work(number: int) -> int:
    await asyncio.sleep(0.004)
    if number % 7 == 0 and number not in failed:
        failed.add(number)
        raise ConnectionError("flaky")
    return number

@app.task()
def kill(number: int) -> None:
    # It exits, it crashes, and it is killed as the system kills what takes too much memory.
    ways = [lambda: os._exit(9), lambda: ctypes.string_at(0), lambda: os.kill(os.getpid(), 9)]
    ways[int(os.environ["LIFE"]) % 3]()

@app.task()
async def long(number: int) -> int:
    await asyncio.sleep(600)
    return number
"""


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=6) as queue:
        yield queue


def send_work(queue: WorkingQueue, count: int, first: int = 0) -> None:
    queue.send(
        *[queue.task("work", b'{"number":%d}' % number, level=number % 5 + 1) for number in range(first, first + count)]
    )


def assert_one_outcome_each(queue: WorkingQueue, count: int) -> None:
    ended = queue.terminal()
    assert len(ended) == count
    assert Counter(len(found) for found in ended.values()) == {1: count}


@pytest.mark.parametrize("slow_settler_s", ["0", "0.15"])
def test_kill_9_joining_and_leaving_lose_and_double_nothing(kafka: str, tmp_path: Path, slow_settler_s: str) -> None:
    env = {"SLOW_SETTLER_S": slow_settler_s}
    # What two deaths may have had, 16 tasks of each partition, runs alone, one in each commit: hence few partitions.
    with working_queue(kafka, partitions=2) as queue, worker_processes(queue, APP, tmp_path) as workers:
        send_work(queue, 6_000)
        workers.start("a", env=env)
        workers.start("b", env=env)
        queue.wait_ended(900)
        workers.signal("a", signal.SIGKILL)
        workers.start("c", env=env)
        queue.wait_ended(2_700)
        workers.signal("c", signal.SIGTERM)
        workers.start("d", env=env)
        queue.wait_ended(4_200)
        workers.signal("b", signal.SIGKILL)
        workers.start("e", env=env)
        queue.wait_ended(6_000, timeout_s=240)
        wait_until(lambda: not queue.lag(), "lag 0")
        assert set(workers.stop_all().values()) == {0}
        assert_one_outcome_each(queue, 6_000)


def test_a_frozen_worker_that_comes_back_settles_nothing_that_others_own(queue: WorkingQueue, tmp_path: Path) -> None:
    send_work(queue, 6_000)
    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("a")
        workers.start("b")
        queue.wait_ended(1_000)
        workers.signal("a", signal.SIGSTOP)
        queue.wait_ended(3_000)
        # Its session has ended by now or ends soon; it wakes among outcomes that were about to be settled.
        wait_until(lambda: len(queue.terminal()) > 5_000 or not workers.runs("b"), "b goes on alone")
        workers.signal("a", signal.SIGCONT)
        queue.wait_ended(6_000)
        wait_until(lambda: not queue.lag(), "lag 0")
        assert set(workers.stop_all().values()) == {0}
    assert_one_outcome_each(queue, 6_000)


def test_a_task_that_kills_its_worker_is_dead_after_three_and_takes_no_other_task_with_it(
    queue: WorkingQueue, tmp_path: Path
) -> None:
    killer = queue.task("kill", b'{"number":1}')
    send_work(queue, 50, first=1)
    queue.send(killer)
    send_work(queue, 50, first=1)
    with worker_processes(queue, APP, tmp_path) as workers:
        for life in range(8):
            workers.start(f"w{life}", env={"LIFE": str(life)})
            wait_until(
                lambda name=f"w{life}": not workers.runs(name) or queue.events(killer.id),  # type: ignore[misc]
                "the worker is killed or the killer is dead",
            )
            if queue.events(killer.id):
                break
        queue.wait_ended(101)
        assert queue.events(killer.id)[-1].reason == "worker_lost"
        assert life == 3, "three workers died, the fourth buried it"
    states = Counter(found[0].state for found in queue.terminal().values())
    assert states == {"completed": 100, "failed": 1}
    assert_one_outcome_each(queue, 101)


def test_the_grace_exceeded_hands_back_what_runs_at_no_attempts_cost(queue: WorkingQueue, tmp_path: Path) -> None:
    task = queue.task("long", b'{"number":1}')
    queue.send(task)
    attempts = []

    async def long(number: int) -> int:
        from fairlane import context

        attempts.append((context().attempt, context().task.handbacks))
        return number

    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("a", "--grace", "0.5")
        wait_until(lambda: queue.running(task.id), "it runs")
        workers.signal("a", signal.SIGTERM)
        assert workers.wait("a") == 6
    with queue.worker(long):
        queue.wait_event(task, "completed")
    assert attempts == [(1, 1)]


def test_a_second_signal_ends_at_once_and_loses_nothing(queue: WorkingQueue, tmp_path: Path) -> None:
    task = queue.task("long", b'{"number":1}')
    queue.send(task)

    async def long(number: int) -> int:
        return number

    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("a", "--grace", "600")
        wait_until(lambda: queue.running(task.id), "it runs")
        workers.signal("a", signal.SIGTERM)
        wait_until(lambda: "ending" in workers.log("a"), "it drains")
        workers.signal("a", signal.SIGTERM)
        assert workers.wait("a") == 128 + signal.SIGTERM
    with queue.worker(long):
        event = queue.wait_event(task, "completed")
    assert event.attempt == 1


def test_a_supervised_worker_comes_back_under_its_own_id_after_a_kill(queue: WorkingQueue, tmp_path: Path) -> None:
    """Until the session of the dead one ends, Kafka refuses its id to the new one, fatally; it asks until then."""
    send_work(queue, 2_000)
    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("a", "--name", "one", "--instance-id", "one")
        queue.wait_ended(200)
        workers.signal("a", signal.SIGKILL)
        workers.start("b", "--name", "one", "--instance-id", "one")
        queue.wait_ended(2_000)
        wait_until(lambda: not queue.lag(), "lag 0")
        assert workers.stop_all() == {"b": 0}
    assert_one_outcome_each(queue, 2_000)


def test_partitions_that_are_added_while_workers_run_are_worked_on(queue: WorkingQueue, tmp_path: Path) -> None:
    send_work(queue, 500)
    with worker_processes(queue, APP, tmp_path) as workers:
        workers.start("a")
        queue.wait_ended(100)
        admin = TopicAdmin(queue.connection, timeout_s=60)
        admin.grow(Topology.of(queue.names), 9)
        queue.wait_ended(500)
        send_work(queue, 500, first=1_000)
        queue.wait_ended(1_000)
        wait_until(lambda: not queue.lag(), "lag 0, new partitions too")
        assert set(workers.stop_all().values()) == {0}
    assert_one_outcome_each(queue, 1_000)


@pytest.mark.fuzz
def test_a_storm_of_starts_and_kills_ends_with_one_outcome_each(
    queue: WorkingQueue, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = seed_of_dice()
    record_property("seed", seed)
    logging.getLogger("test").info("FAIRLANE_SEED=%d", seed)
    dice = random.Random(seed)
    send_work(queue, 5_000)
    with worker_processes(queue, APP, tmp_path) as workers:
        names = [f"s{number}" for number in range(3)]
        for name in names:
            workers.start(name)
        for strike in range(6):
            queue.wait_ended(500 + 600 * strike)
            victim = dice.choice([name for name in names if workers.runs(name)])
            workers.signal(victim, dice.choice([signal.SIGKILL, signal.SIGTERM]))
            names.append(f"s{len(names)}")
            workers.start(names[-1])
        queue.wait_ended(5_000)
        wait_until(lambda: not queue.lag(), "lag 0")
    assert_one_outcome_each(queue, 5_000)
