"""`fairlane workers`: who is listed, with which numbers, as lines and as JSON."""

from __future__ import annotations

import json

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner
from written_queue import WrittenQueue, now_ms

from fairlane.cli.main import app
from fairlane.monitor.roster import LOST_SHOWN_MS, Roster
from fairlane.monitor.stats import PoolStats, Stats, TopicStats, WorkerStats
from fairlane.monitor.workers_view import workers_lines, workers_table
from fairlane.topics.events import Heartbeat

NOW_MS = 1_760_000_000_000
HEADER = ["Worker", "State", "Running", "Busy", "Partitions", "Lag", "Up", "Heard", "Host", "Pid", "Version"]


def beat(worker: str, age_ms: int = 0, **fields: object) -> Heartbeat:
    made: dict[str, object] = {"worker": worker, "at_ms": NOW_MS - age_ms, "started_ms": NOW_MS - 600_000, **fields}
    return Heartbeat(**made)  # type: ignore[arg-type]


def roster() -> Roster:
    made = Roster()
    made.add(beat("alive", partitions=("q.p3/0", "q.p5/0")))
    made.add(beat("away", 6_000, partitions=("q.p3/1",)))
    made.add(beat("lost", LOST_SHOWN_MS + 1))
    made.add(beat("stopped", state="stopped", partitions=("q.p3/1",)))
    return made


@pytest.mark.parametrize(
    ("every", "listed"),
    [
        (False, {"alive": "running", "away": "lost"}),
        (True, {"alive": "running", "away": "lost", "lost": "lost", "stopped": "stopped"}),
    ],
)
def test_those_that_matter_are_listed_and_all_on_demand(every: bool, listed: dict[str, str]) -> None:
    assert {worker.worker: worker.state for worker in roster().workers(NOW_MS, every=every)} == listed


def test_the_lag_of_a_worker_is_that_of_the_partitions_that_it_holds() -> None:
    lag = {"q.p3/0": 5, "q.p5/0": 2, "q.p3/1": 100}
    found = {worker.worker: worker.lag for worker in roster().workers(NOW_MS, lag, every=True)}
    assert found == {"alive": 7, "away": 0, "lost": 0, "stopped": 0}


def stats(*workers: WorkerStats, partitions: int = 12) -> Stats:
    return Stats(
        queue_length=0, running_tasks=3, completed_tasks=0, failed_tasks=0, avg_process_time_s=0, queue="shop",
        at_ms=NOW_MS, worker_count=len(workers), workers_known=len(workers), slots=20, utilisation=0.4,
        lanes=(TopicStats(topic="shop.p3", kind="lane", partitions=partitions),), workers=workers,
    )  # fmt: skip


def rows(of: Stats) -> list[list[str]]:
    out = Console(width=200, no_color=True)
    with out.capture() as captured:
        out.print(workers_table(of).table(200))
    return [line.split() for line in captured.get().splitlines()]


def test_a_row_has_everything_of_a_worker_and_only_what_is_known_of_one_that_is_gone() -> None:
    told = {"host": "vm", "pid": 7, "version": "0.1.0", "uptime_ms": 120_000, "age_ms": 400, "concurrency": 10}
    alive = WorkerStats(worker="w-0", state="running", running=3, utilisation=0.4, partitions=6, lag=1_200, **told)  # type: ignore[arg-type]
    lost = WorkerStats(worker="w-1", state="lost", running=3, utilisation=1.0, partitions=6, **told)  # type: ignore[arg-type]
    header, first, second = rows(stats(alive, lost))
    assert header == [
        "Worker",
        "State",
        "Running",
        "Busy",
        "Partitions",
        "Lag",
        "Up",
        "Heard",
        "Host",
        "Pid",
        "Version",
    ]
    assert first[:6] == ["w-0", "running", "3/10", "40%", "6", "1,200"]
    assert first[-3:] == ["vm", "7", "0.1.0"]
    assert second[:6] == ["w-1", "lost", "-", "-", "-", "-"]


def test_more_workers_than_a_lane_has_partitions_are_said_to_have_nothing_to_do() -> None:
    three = [WorkerStats(worker=f"w-{number}", state="running") for number in range(3)]
    assert workers_lines(stats(*three, partitions=3)) == (
        "Workers: 3/3 active",
        "Running Tasks: 3 of 20, 40% busy",
    )
    said = workers_lines(stats(*three, partitions=2))[-1]
    assert said.startswith("1 of them has nothing to do: a lane has 2 partitions")
    assert "fairlane topics grow --queue shop" in said


def test_a_pool_that_adapts_is_told_with_its_bounds_and_its_last_decision() -> None:
    told = PoolStats(name="vm-7", processes=4, least=2, most=8, reason="2 to 4 processes: 97% busy", age_ms=14_000)
    young = PoolStats(name="vm-9", processes=1, least=1, most=2)
    lines = workers_lines(msgspec.structs.replace(stats(), pools=(told, young)))
    assert lines[2:] == (
        "Pool vm-7: 4 of 2 to 8 processes; 14s ago 2 to 4 processes: 97% busy",
        "Pool vm-9: 1 of 1 to 2 processes",
    )


@pytest.mark.kafka
def test_the_command_lists_workers_as_lines_and_as_json(written: WrittenQueue) -> None:
    lane = written.names.lane(3)
    for _ in range(4):
        written.enqueue(written.task(), partition=1)
    written.commit({(lane, 1): 1})
    at_ms = now_ms()
    written.beat(Heartbeat(worker="gone", at_ms=at_ms, state="stopped", host="old"))
    written.beat(
        Heartbeat(worker="pool-0", at_ms=at_ms, host="vm", pid=7, version="0.1.0", concurrency=10, running=2,
                  partitions=(f"{lane}/0", f"{lane}/1"))
    )  # fmt: skip
    where = {"FAIRLANE_QUEUE_URL": f"kafka://{written.connection.bootstrap}/{written.names.queue}"}

    def run(*options: str) -> str:
        done = CliRunner().invoke(app, ["workers", *options], env=where)
        assert done.exit_code == 0, done.output
        return done.stdout

    said = run().splitlines()
    assert said[:2] == ["Workers: 1/1 active", "Running Tasks: 2 of 10, 0% busy"]
    assert said[-1].split()[:6] == ["pool-0", "running", "2/10", "0%", "2", "3"]
    found = json.loads(run("--json", "--all"))
    assert (found["queue"], found["worker_count"], found["workers_known"]) == (written.names.queue, 1, 1)
    assert [(one["worker"], one["state"], one["lag"]) for one in found["workers"]] == [
        ("gone", "stopped", 0),
        ("pool-0", "running", 3),
    ]


@pytest.mark.kafka
def test_a_queue_without_workers_has_none_and_that_is_no_error(written: WrittenQueue) -> None:
    where = {"FAIRLANE_QUEUE_URL": f"kafka://{written.connection.bootstrap}/{written.names.queue}"}
    done = CliRunner().invoke(app, ["workers"], env=where)
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "Workers: 0/0 active")
