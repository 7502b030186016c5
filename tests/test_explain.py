"""What holds a task, as `fairlane explain` says it: the decision by itself, and the command on a real broker."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner
from written_queue import WrittenQueue, now_ms

from fairlane.cli.main import app
from fairlane.monitor.explain import explain
from fairlane.monitor.stats import Rates, RunningStats, Stats, TopicStats, TypeStats
from fairlane.monitor.task_view import Place, TaskView
from fairlane.topics.control import ControlRecord
from fairlane.topics.events import Counters, ErrorInfo, Heartbeat, RunningTask

NOW_MS = 1_764_000_000_000


def task(state: str = "pending", *, kind: Any = "lane", before: int = 0, **fields: Any) -> TaskView:
    place = Place(kind=kind, topic="shop.p3", partition=1, offset=500, before=before)
    view = {"type": "email", "lane": "shop.p3", "attempt": 1, "place": place, **fields}
    return TaskView(id="a", queue="shop", state=state, **view)  # type: ignore[arg-type]


def stats(**fields: Any) -> Stats:
    lanes = (
        TopicStats(topic="shop.p5", kind="lane", level=5, weight=16, partitions=4, length=fields.pop("p5", 0)),
        TopicStats(topic="shop.p3", kind="lane", level=3, weight=4, partitions=4, length=fields.pop("p3", 0)),
    )
    known: dict[str, Any] = {
        "queue_length": 0, "running_tasks": 0, "completed_tasks": 0, "failed_tasks": 0, "avg_process_time_s": 0.1,
        "worker_count": 2, "slots": 8, "queue": "shop", "at_ms": NOW_MS, "lanes": lanes,
    }  # fmt: skip
    return Stats(**(known | fields))


def test_a_backlog_is_counted_from_its_partition_and_drains_at_its_lanes_share() -> None:
    said = explain(task(before=50), stats(p3=400, p5=900, rates=Rates(completed_per_s=90, failed_per_s=10)), NOW_MS)
    assert (said.held_by, said.before) == ("backlog", 200)
    assert said.drain_per_s == pytest.approx(100 * 4 / 20)  # weights 16 and 4
    assert said.starts_ms == NOW_MS + 10_000
    flat = tuple(replace(lane, weight=1) for lane in stats(p3=400, p5=900).lanes)
    said = explain(task(before=50), stats(lanes=flat, rates=Rates(completed_per_s=100)), NOW_MS)
    assert said.drain_per_s == pytest.approx(50)
    alone = explain(task(before=50), stats(p3=400, rates=Rates(completed_per_s=100)), NOW_MS)
    assert (alone.drain_per_s, alone.starts_ms) == (100, NOW_MS + 2_000)


def test_a_backlog_that_nobody_drains_has_no_time() -> None:
    said = explain(task(before=5), stats(p3=30), NOW_MS)
    assert (said.held_by, said.starts_ms, said.drain_per_s) == ("backlog", 0, 0)
    assert "fairlane workers" in said.advice


def test_what_is_not_due_waits_for_its_time_and_then_for_its_lane() -> None:
    early = task("retrying", kind="tier", due_ms=NOW_MS + 60_000, attempt=2)
    said = explain(early, stats(p3=100, rates=Rates(completed_per_s=100)), NOW_MS)
    assert (said.held_by, said.starts_ms, said.before) == ("due", NOW_MS + 60_000, 100)
    assert "attempt 2 of it is not due for 60.0 s" in said.why
    full = explain(early, stats(p3=10_000, rates=Rates(completed_per_s=100)), NOW_MS)
    assert full.starts_ms == NOW_MS + 100_000


def test_without_workers_nothing_starts() -> None:
    said = explain(task(before=3), stats(worker_count=0, p3=9), NOW_MS)
    assert (said.held_by, said.starts_ms) == ("no_workers", 0)
    assert "fairlane worker" in said.advice


def test_a_limit_of_its_type_holds_it() -> None:
    runs = tuple(
        RunningStats(worker="w", task=RunningTask(str(n), "email", 1, "shop.p3/0", n), age_ms=600) for n in range(2)
    )
    types = (TypeStats(type="email", n=9, mean_ms=600, p95_ms=900, limit=2),)
    assert explain(task(), stats(types=types, running=runs, running_tasks=2), NOW_MS).held_by == "limit"
    assert explain(task(), stats(types=types, running=runs[:1], running_tasks=1), NOW_MS).held_by == "nothing"


def test_busy_slots_hold_what_is_next() -> None:
    said = explain(task(), stats(running_tasks=8), NOW_MS)
    assert (said.held_by, "all 8 slots" in said.why) == ("busy", True)
    assert explain(task(), stats(running_tasks=7), NOW_MS).starts_ms == NOW_MS


def pause(lane: str = "", until_ms: int = 0, **fields: Any) -> ControlRecord:
    scope = f"lane:{lane}" if lane else "queue"
    return ControlRecord(kind="pause", scope=scope, who="ada", at_ms=NOW_MS - 60_000, until_ms=until_ms, **fields)


def test_a_pause_holds_it_until_the_last_of_them_ends() -> None:
    rates, lane, queue = Rates(completed_per_s=10), pause("shop.p3", NOW_MS + 60_000), pause("", NOW_MS + 90_000)
    said = explain(task(before=5), stats(p3=20, rates=rates, paused=(lane,)), NOW_MS)
    assert (said.held_by, said.before, said.drain_per_s) == ("paused", 19, 10)
    assert said.starts_ms == NOW_MS + 60_000 + 1_900
    assert said.why.startswith("shop.p3 is paused by ada since ")
    both = explain(task(before=5), stats(p3=20, rates=rates, paused=(lane, queue)), NOW_MS)
    assert both.starts_ms == NOW_MS + 90_000 + 1_900
    assert both.advice == (
        "`fairlane resume --queue shop` and `fairlane resume --queue shop --lane shop.p3` let it go on"
    )
    endless = explain(task(), stats(paused=(lane, pause())), NOW_MS)
    assert (endless.held_by, endless.starts_ms) == ("paused", 0)
    assert explain(task(), stats(paused=(pause("shop.p5"),)), NOW_MS).held_by == "nothing"
    alone = explain(task(), stats(paused=(queue,), worker_count=0), NOW_MS)
    assert (alone.held_by, alone.starts_ms, "and no worker of queue 'shop' is alive" in alone.why) == (
        "paused",
        0,
        True,
    )


def test_a_pause_that_is_over_before_it_is_due_does_not_hold_it() -> None:
    late = task("retrying", kind="tier", due_ms=NOW_MS + 60_000, attempt=2)
    said = explain(late, stats(paused=(pause("shop.p3", NOW_MS + 30_000),)), NOW_MS)
    assert (said.held_by, said.starts_ms) == ("due", NOW_MS + 60_000)


def test_a_cancelled_task_says_by_whom_and_when_it_ends() -> None:
    cancel = ControlRecord(kind="cancel", scope="task:a", who="ada", at_ms=NOW_MS - 5_000, reason="sent by hand")
    at = "it was cancelled by ada at T (5s): sent by hand; "
    runs = explain(task("running", worker="w1"), stats(), NOW_MS, cancel, lambda _: "T")
    assert (runs.held_by, runs.why) == ("cancelled", f"{at}it runs on w1, and is cut off")
    waits = explain(task(), stats(), NOW_MS, cancel, lambda _: "T")
    assert waits.why == f"{at}it does not run, and ends as cancelled when a worker would start it"
    paused = explain(task(), stats(paused=(pause("shop.p3"),)), NOW_MS, cancel, lambda _: "T")
    assert paused.why.endswith("when a worker would start it, and shop.p3 is paused by ada since T (1m)")
    assert "no worker of queue 'shop' is alive" in explain(task(), stats(worker_count=0), NOW_MS, cancel).why


def test_what_expires_before_it_starts_is_said() -> None:
    said = explain(task(before=50, expires_ms=NOW_MS + 1_000), stats(p3=400, rates=Rates(completed_per_s=10)), NOW_MS)
    assert said.late
    assert "expired by then" in said.why


@pytest.mark.parametrize(
    ("view", "held_by", "why"),
    [
        (task("completed"), "ended", "it completed"),
        (task("cancelled", reason="by ada: sent by hand"), "ended", "it is cancelled by ada: sent by hand"),
        (task("failed", kind="dlq", reason="fatal", error=ErrorInfo("E", "no")), "ended", "it failed, fatal: E: no"),
        (task("running", worker="w1", started_ms=NOW_MS - 2_000), "running", "w1 runs its attempt 1 for 2.0 s"),
        (task("retrying", place=None), "moving", "no lane or tier has its record"),
    ],
)
def test_what_does_not_wait_says_what_became_of_it(view: TaskView, held_by: str, why: str) -> None:
    said = explain(view, None, NOW_MS)
    assert said.held_by == held_by
    assert why in said.why


def test_a_dead_task_is_told_how_to_run_again() -> None:
    said = explain(task("failed", kind="dlq", reason="fatal"), None, NOW_MS)
    assert "fairlane dlq replay 1/500 --queue shop" in said.advice


@pytest.mark.kafka
def test_the_command_finds_the_record_and_what_is_before_it(written: WrittenQueue) -> None:
    for _ in range(9):
        written.enqueue(written.task(), partition=1)
    place = written.enqueue(written.task("a"), partition=1)
    where = {"FAIRLANE_QUEUE_URL": f"kafka://{written.connection.bootstrap}/{written.names.queue}"}
    alone = json.loads(CliRunner().invoke(app, ["explain", "a", "--json"], env=where).stdout)
    assert alone["held_by"] == "no_workers"
    assert [alone["task"]["place"][name] for name in ("topic", "partition", "offset", "before")] == [*place, 9]
    names = written.names
    written.enqueue(written.task(), 5)
    at_ms = now_ms()
    for ago_ms, completed in ((2_000, 100), (0, 110)):
        written.beat(
            Heartbeat(worker="w", at_ms=at_ms - ago_ms, started_ms=1, concurrency=4, running=4,
                      counters=Counters(completed=completed), weights={names.lane(5): 1, names.lane(3): 4})
        )  # fmt: skip
    said = CliRunner().invoke(app, ["explain", "--task-id", "a"], env=where).stdout
    assert said.startswith(f"Because: about 9 tasks of {place[0]} are before it, which end at 4.0/s.\nShould start: ")
    assert f"Record: lane {place[0]}/1/{place[2]}" in said


@pytest.mark.kafka
def test_a_cancel_in_force_is_explained_unless_the_task_is_a_later_one(written: WrittenQueue) -> None:
    where = {"FAIRLANE_QUEUE_URL": f"kafka://{written.connection.bootstrap}/{written.names.queue}"}
    written.enqueue(written.task("a"))
    cli = CliRunner()
    assert cli.invoke(app, ["cancel", "a", "b", "--reason", "sent by hand"], env=where).exit_code == 0
    written.enqueue(written.task("b", enqueued_ms=now_ms() + 60_000))
    found = [json.loads(cli.invoke(app, ["explain", each, "--json"], env=where).stdout) for each in ("a", "b")]
    assert [each["held_by"] for each in found] == ["cancelled", "no_workers"]
    assert "sent by hand; it does not run, and ends as cancelled when a worker would start it" in found[0]["why"]


@pytest.mark.kafka
def test_an_unknown_task_is_explained_by_its_exit_code(written: WrittenQueue) -> None:
    where = {"FAIRLANE_QUEUE_URL": f"kafka://{written.connection.bootstrap}/{written.names.queue}"}
    result = CliRunner().invoke(app, ["explain", "nope"], env=where)
    assert getattr(result.exception, "exit_code", None) == 5
