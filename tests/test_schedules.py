"""Schedules on a real Kafka: of an app and by hand, over kills of whoever owns them, and on a queue without the topics.

What do these tests do? They read the lanes as a read_committed reader does, and count the tasks of each instant. The
first one has its long form: `INSTANTS=200 KILL_EVERY_S=10 pytest tests/test_schedules.py -k killed`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from live_queue import headers_of, records, wait_until
from worker_processes import worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane import Fairlane, Settings, UsageError, every
from fairlane.consumer.schedule_machine import Deployment
from fairlane.consumer.worker import Worker
from fairlane.monitor.schedules import ScheduleKeeper
from fairlane.topics.control_errors import NoSchedules
from fairlane.topics.schedules import Schedule
from fairlane.working import deployment_of

pytestmark = pytest.mark.kafka

INSTANTS = int(os.environ.get("INSTANTS", "12"))
KILL_EVERY_S = float(os.environ.get("KILL_EVERY_S", "4"))
PAGE = (Path(__file__).resolve().parent.parent / "docs/schedules.md").read_text()
OUT = Path(__file__).resolve().parent.parent / "out/schedules.txt"
"""What the first test has counted."""

APP = """
from fairlane import Fairlane, every

app = Fairlane("{queue}")

@app.schedule(every(1), name="ticks")
@app.task
async def tick() -> None:
    pass
"""
OTHER_APP = """
from fairlane import Fairlane

app = Fairlane("{queue}")

@app.task
async def tick() -> None:
    pass
"""


@pytest.fixture(scope="module")
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=3) as made:
        yield made


def keeper(queue: WorkingQueue, timeout_s: float = 20.0) -> ScheduleKeeper:
    return ScheduleKeeper(queue.connection, queue.names, who="ann@test", via="cli", timeout_s=timeout_s)


def fired(queue: WorkingQueue, name: str) -> list[str]:
    """The ids of the tasks that a schedule has made, as they were written."""
    found = []
    for lane in queue.lanes:
        for message in records(queue.bootstrap, lane.topic):
            headers = headers_of(message)
            task_id = (headers.get("ce_id") or b"").decode()
            if task_id.startswith(f"{name}@") and "fairlane-origin" not in headers:
                found.append(task_id)
    return sorted(found)


def seconds_of(ids: list[str]) -> list[int]:
    return [round(time_of(each)) for each in ids]


def time_of(task_id: str) -> float:
    from fairlane.topics.rfc3339 import parse_ms

    at_ms = parse_ms(task_id.rpartition("@")[2])
    assert at_ms is not None
    return at_ms / 1000


def test_each_instant_is_a_task_once_while_workers_are_killed(queue: WorkingQueue, tmp_path: Path) -> None:
    kills = 0
    with worker_processes(queue, APP, tmp_path) as workers:
        names = [f"w{number}" for number in range(3)]
        for name in names:
            workers.start(name)
        wait_until(lambda: bool(fired(queue, "ticks")), "the first instant is a task", timeout_s=60)
        first = time_of(fired(queue, "ticks")[0])
        next_kill = time.monotonic() + KILL_EVERY_S
        while time.time() < first + INSTANTS:
            time.sleep(0.2)
            if time.monotonic() >= next_kill:
                kills += 1
                victim = names.pop(0)
                workers.signal(victim, signal.SIGKILL)
                workers.wait(victim)
                names.append(f"w{2 + kills}")
                workers.start(names[-1])
                next_kill += KILL_EVERY_S
        asked = keeper(queue, 60).pause("ticks")
        assert asked.taken_up
        assert asked.state is not None
        ids = fired(queue, "ticks")
        twice = {task_id: count for task_id, count in Counter(ids).items() if count > 1}
        seconds = seconds_of(ids)
        gaps = [second for second in range(seconds[0], seconds[-1] + 1) if second not in seconds]
        late = asked.state.last_ms / 1000
        said = f"{len(ids)} instants, {kills} kills of 3 workers: {len(twice)} twice, {len(gaps)} left out\n"
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(said)
        assert not twice
        assert not gaps
        assert len(ids) >= INSTANTS
        assert asked.state.fired == len(ids)
        assert late >= seconds[-1]
        wait_until(lambda: all(queue.events(each) for each in ids), "all of them ran", timeout_s=60)
        workers.stop_all()


def run_cli(queue: WorkingQueue, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = f"kafka://{queue.bootstrap}/{queue.names.queue}"
    command = [sys.executable, "-m", "fairlane", "schedule", *arguments, "--queue-url", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_schedule_of_the_command_line_is_asked_for_while_nobody_works_and_runs_when_somebody_does(
    queue: WorkingQueue,
) -> None:
    added = run_cli(queue, "add", "hand", "--type", "noted", "--every", "1s", "-p", '{"n": 7}', "--timeout", "4")
    assert added.returncode == 0, added.stderr
    assert "no worker has taken it up yet" in added.stdout
    seen: list[int] = []

    async def noted(n: int) -> None:
        seen.append(n)

    with queue.worker(noted):
        wait_until(lambda: len(seen) >= 2, "it runs", timeout_s=60)
        listed = json.loads(run_cli(queue, "list", "--json").stdout)
        (state,) = [each for each in listed if each["schedule"]["name"] == "hand"]
        assert (state["schedule"]["every_ms"], state["schedule"]["by"]) == (1_000, "cli")
        assert re.search(r"hand +every 1 s +noted +20\d\d-", run_cli(queue, "list").stdout)
        following = json.loads(run_cli(queue, "next", "hand", "-n", "3", "--json").stdout)
        assert [each % 1_000 for each in following] == [0, 0, 0]
        paused = run_cli(queue, "pause", "hand")
        assert paused.stdout == "hand: paused.\n", paused.stderr
        before = fired(queue, "hand")
        assert "paused" in run_cli(queue, "list").stdout
        resumed = run_cli(queue, "resume", "hand")
        assert resumed.stdout.startswith("hand: resumed. It is due next at "), resumed.stderr
        wait_until(lambda: len(fired(queue, "hand")) > len(before), "it goes on", timeout_s=20)
        assert run_cli(queue, "remove", "hand").stdout == "hand: removed.\n"
        after = fired(queue, "hand")
        assert len(set(after)) == len(after)
        missing = run_cli(queue, "pause", "hand")
        assert missing.returncode == 2
        assert "has no schedule 'hand'" in missing.stderr
    assert set(seen) == {7}
    said = [message.value() or b"" for message in records(queue.bootstrap, queue.names.audit)]
    actions = [json.loads(each)["action"] for each in said if b'"target":"hand"' in each]
    assert actions == ["schedule add", "schedule pause", "schedule resume", "schedule remove"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cron", "nonsense"], "is no cron expression"),
        (["--cron", "0 9 * * *", "--tz", "Mars/Olympus"], "is no time zone"),
        (["--every", "10ms"], "a period of 0.01 s is none"),
        ([], "Give one of them"),
        (["--every", "1s", "--misfire", "never"], "Say skip, latest or all"),
        (["--every", "1s", "--priority", "9"], "no lane has priority 9"),
    ],
)
def test_what_is_no_schedule_is_refused_before_anything_is_written(arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "fairlane", "schedule", "add", "x", "-t", "t", "--queue", "shop", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert words in ended.stderr


def test_what_a_newer_deployment_no_longer_defines_goes_and_the_app_keeps_its_own(kafka: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    with working_queue(kafka, partitions=2) as queue:
        with worker_processes(queue, APP, old) as workers:
            workers.start("old", env={"FAIRLANE_DEPLOYED_AT": "2026-01-01T00:00:00Z"})
            wait_until(lambda: bool(keeper(queue).all()), "it is defined", timeout_s=60)
            with pytest.raises(UsageError, match="defined by the app"):
                keeper(queue).remove("ticks")
            workers.stop_all()
        with worker_processes(queue, OTHER_APP, new) as workers:
            workers.start("new", env={"FAIRLANE_DEPLOYED_AT": "2026-01-02T00:00:00Z"})
            wait_until(lambda: not keeper(queue).all(), "it is removed", timeout_s=60)
            workers.stop_all()
        with worker_processes(queue, APP, old) as workers:
            workers.start("late", env={"FAIRLANE_DEPLOYED_AT": "2026-01-01T00:00:00Z"})
            wait_until(lambda: "own 1 schedules" in workers.log("late"), "it owns what there is", timeout_s=60)
            time.sleep(1.5)
            assert not keeper(queue).all()
            workers.stop_all()


def test_an_older_queue_without_the_topics_is_worked_on_and_has_no_schedules(
    kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def quick() -> None: ...

    with working_queue(kafka, partitions=1) as older:
        admin = AdminClient({"bootstrap.servers": kafka})
        for deleted in admin.delete_topics([older.names.events, older.names.state]).values():
            deleted.result(20)
        with older.worker(quick):
            task = older.task("quick")
            older.send(task)
            older.wait_event(task, "completed")
        with pytest.raises(NoSchedules, match="topics create"):
            keeper(older).all()
        deployment = Deployment((Schedule(name="x", type="quick", every_ms=1_000),), frozenset({"quick"}), 1)
        Worker(older.config(), {}, deployment=deployment)._check()
    assert [line for line in caplog.messages if "they are off" in line] == [
        f"the app defines 1 schedules, and they are off, since the queue lacks {older.names.events}: "
        f"`fairlane topics create --queue {older.names.queue}` makes it, then start the workers again"
    ]


def test_the_example_of_the_page_runs(queue: WorkingQueue, tmp_path: Path) -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    with worker_processes(
        queue, source.replace('"shop"', '"{queue}"').replace("every(30)", "every(1)"), tmp_path
    ) as each:
        each.start("page")
        wait_until(lambda: {"report", "poll-eu", "poll-us"} <= names_of(queue), "it is defined", timeout_s=60)
        wait_until(lambda: all(ended(queue, name) for name in ("poll-eu", "poll-us")), "it polls", timeout_s=60)
        (report,) = [state for state in keeper(queue).all() if state.schedule.name == "report"]
        assert report.schedule.when == "0 9 * * 1-5 Europe/Berlin"
        each.stop_all()


def names_of(queue: WorkingQueue) -> set[str]:
    return {state.schedule.name for state in keeper(queue).all()}


def ended(queue: WorkingQueue, name: str) -> bool:
    return any(event.state == "completed" for each in fired(queue, name) for event in queue.events(each))


# What the app says, without Kafka.


def test_a_schedule_says_what_an_enqueue_of_its_task_would() -> None:
    app = Fairlane("shop", settings=Settings(deployed_at="2026-11-24T05:00:00Z"))

    @app.schedule("0 9 * * 1-5", tz="Europe/Berlin", priority=5, args=("ann",), key="k", jitter_s=30, misfire="all")
    @app.schedule(every(90), name="often", kwargs={"to": "bob"})
    @app.task(expires_s=60)
    async def mail(to: str) -> None: ...

    often, daily = app.schedules
    assert (daily.name, daily.when, daily.payload, daily.priority) == (
        "mail",
        "0 9 * * 1-5 Europe/Berlin",
        b'{"to":"ann"}',
        5,
    )
    assert (daily.key, daily.jitter_ms, daily.misfire, daily.expires_ms) == (b"k", 30_000, "all", 60_000)
    assert (often.every_ms, often.payload, often.priority) == (90_000, b'{"to":"bob"}', 3)
    deployment = deployment_of(app)
    assert {each.defined_ms for each in deployment.schedules} == {1_795_496_400_000} == {deployment.deployed_ms}
    assert deployment.types == {"mail"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"when": "61 * * * *"}, "is no cron expression"),
        ({"when": every(0.5)}, "a period of 0.5 s"),
        ({"when": every("x")}, "is no period"),  # type: ignore[arg-type]
        ({"when": every(1), "id": "x"}, "has no option 'id'"),
        ({"when": every(1), "delay_s": 1}, "has no option 'delay_s'"),
        ({"when": every(1), "jitter_s": -1}, "jitter_s=-1"),
        ({"when": every(1), "misfire": "never"}, "misfire='never'"),
        ({"when": every(1), "name": "with space"}, "Names are of"),
        ({"when": every(1), "kwargs": {"n": 1}}, ""),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_where_it_is_said(options: dict[str, Any], words: str) -> None:
    app = Fairlane("shop", settings=Settings())

    @app.task
    async def tick() -> None: ...

    with pytest.raises(Exception, match=words or "n"):
        app.schedule(**options)(tick)
    assert not app.schedules


def test_two_schedules_of_one_name_and_a_function_that_is_no_task_are_refused() -> None:
    app = Fairlane("shop", settings=Settings())

    @app.schedule(every(1))
    @app.task
    async def tick() -> None: ...

    with pytest.raises(UsageError, match="two schedules"):
        app.schedule(every(2))(tick)
    with pytest.raises(UsageError, match=r"above @app\.task"):
        app.schedule(every(2))(lambda: None)  # type: ignore[type-var]


def test_when_it_was_deployed_is_a_time() -> None:
    assert Settings(deployed_at="1795496400").deployed_ms == 1_795_496_400_000
    with pytest.raises(UsageError, match="which is no time"):
        Settings(deployed_at="yesterday")
