"""A real worker, watched: what it writes is what status, snapshot and dead letters are made of."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer
from live_queue import live_queue, wait_until

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.pool import WorkerPool
from fairlane.consumer.retry import RetryPolicy
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.lookup import find_task
from fairlane.monitor.replay import new_job, run_replay
from fairlane.monitor.snapshot import Watcher
from fairlane.monitor.stats import Stats
from fairlane.monitor.task_view import TaskView
from fairlane.topics import wire
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.ids import new_id
from fairlane.topics.names import QueueNames
from fairlane.topics.task import Task

pytestmark = pytest.mark.kafka


class Watched:
    """A queue, a producer, and a worker with handlers whose ends the test decides."""

    def __init__(self, bootstrap: str, names: QueueNames) -> None:
        self.connection = Connection(bootstrap)
        self.names = names
        self.may_end = threading.Event()
        self.broken = True
        self._producer = Producer(self.connection.producer())
        self.pool = WorkerPool(WorkerConfig(self.connection, names.queue, concurrency=4))
        self.pool.register_handler("fast", lambda n: {"got": n})
        self.pool.register_handler("slow", lambda n: self.may_end.wait(30))
        self.pool.register_handler("bad", self._bad, retry=RetryPolicy(fatal=(ValueError,)))
        self.pool.register_handler("flaky", self._flaky, retry=RetryPolicy(base_s=60, jitter=0))

    def _bad(self, n: int) -> str:
        if self.broken:
            raise ValueError(f"no user {n}")
        return "mended"

    def _flaky(self, n: int) -> None:
        raise OSError("no route")

    def enqueue(self, *types: str) -> list[str]:
        ids = []
        for task_type in types:
            task = Task(id=new_id(), type=task_type, payload=b'{"n":7}', enqueued_ms=now_ms())
            self._producer.produce(self.names.lane(3), task.payload, task.id.encode(), headers=[*wire.encode(task)])
            ids.append(task.id)
        assert self._producer.flush(10) == 0
        return ids

    def find(self, task_id: str) -> TaskView:
        return find_task(self.connection, self.names, task_id, now_ms=now_ms())

    def becomes(self, task_id: str, state: str) -> TaskView:
        wait_until(lambda: self.find(task_id).state == state, f"{task_id} is {state}")
        return self.find(task_id)


@pytest.fixture
def watched(kafka: str) -> Iterator[Watched]:
    with live_queue(kafka) as names:
        watched = Watched(kafka, names)
        yield watched
        watched.may_end.set()
        watched.pool.stop()


def test_every_state_of_a_task_is_seen(watched: Watched) -> None:
    fast, slow, bad, flaky = watched.enqueue("fast", "slow", "bad", "flaky")
    assert {watched.find(each).state for each in (fast, slow, bad, flaky)} == {"pending"}
    watched.pool.start()
    assert bytes(watched.becomes(fast, "completed").result) == b'{"got":7}'
    running = watched.becomes(slow, "running")
    assert running.worker
    assert running.place is not None
    retrying = watched.becomes(flaky, "retrying")
    assert (retrying.attempt, retrying.error and retrying.error.message) == (2, "no route")
    assert retrying.place is not None
    assert retrying.place.kind == "tier"
    assert 0 < retrying.due_ms - now_ms() <= 60_000
    failed = watched.becomes(bad, "failed")
    assert (failed.reason, failed.error and failed.error.type) == ("fatal", "ValueError")
    watched.may_end.set()
    assert watched.becomes(slow, "completed").finished_ms > 0


def test_a_snapshot_counts_what_a_worker_did_and_not_what_it_finished_behind_a_slow_task(watched: Watched) -> None:
    watched.enqueue("slow", *["fast"] * 100, "flaky", "bad")
    watched.pool.start()
    newest: list[Stats] = []
    with Watcher(watched.connection, watched.names) as watcher:

        def settled() -> bool:
            newest.append(watcher.collect(now_ms()))
            return (newest[-1].completed_tasks, newest[-1].queue_length) == (100, 0)

        wait_until(settled, "100 tasks are completed and none waits")
    stats = newest[-1]
    assert (stats.running_tasks, stats.worker_count, stats.workers_known, stats.slots) == (1, 1, 1, 4)
    assert (stats.failed_tasks, stats.delayed_tasks, stats.dead_letters) == (1, 1, 1)
    assert stats.lag > 1  # the slow task holds the watermark of its partition
    assert stats.rates.completed_per_s > 0
    assert {each.type: each.n for each in stats.types}["fast"] == 100
    assert [each.task.type for each in stats.running] == ["slow"]


def test_a_letter_put_back_runs_again(watched: Watched) -> None:
    (bad,) = watched.enqueue("bad")
    watched.pool.start()
    watched.becomes(bad, "failed")
    watched.broken = False
    job = new_job(watched.connection, watched.names, LetterFilter(task_id=bad))
    assert run_replay(watched.connection, watched.names, job, who="ada").count == 1
    done = watched.becomes(bad, "completed")
    assert (bytes(done.result), done.attempt) == (b'"mended"', 1)
