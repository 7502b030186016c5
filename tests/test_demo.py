"""`fairlane demo`, as a newcomer types it: what it says is true, it ends well, and it leaves nothing behind.

What do these tests do? They run the command in a process of its own, with the Kafka and the workers that it starts,
once to its end and then cut short in every way; what has been left behind is found by a mark in the environment.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from left_behind import Mark
from waiting import wait_until

pytestmark = pytest.mark.kafka

COMMAND = [sys.executable, "-m", "fairlane", "demo"]
WORKERS_RUN = "processes started"


@dataclass(frozen=True)
class Played:
    """A demo that came to its end."""

    exit_code: int
    output: str
    errors: str
    mark: Mark
    temporary: Path

    @property
    def lines(self) -> list[str]:
        return [line.strip() for line in self.output.splitlines()]

    def match(self, pattern: str) -> re.Match[str]:
        found = re.search(pattern, self.output)
        assert found, f"{pattern!r} is not in\n{self.output}\n{self.errors}"
        return found


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    temporary = tmp_path_factory.mktemp("demo")
    mark = Mark()
    # What a user has set is not the demo's business.
    theirs = {
        "FAIRLANE_QUEUE_URL": "kafka://nowhere:1/theirs",
        "FAIRLANE_WEIGHTS": '{"7": 1}',
        "OTEL_TRACES_SAMPLER": "x",
    }
    done = subprocess.run(
        COMMAND, env={**mark.environ, **theirs, "TMPDIR": str(temporary)}, capture_output=True, text=True, timeout=240
    )
    return Played(done.returncode, done.stdout, done.stderr, mark, temporary)


@contextmanager
def playing(temporary: Path, *arguments: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], Mark]]:
    """A demo whose workers have just started."""
    mark = Mark()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env={**mark.environ, "TMPDIR": str(temporary), **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        try:
            assert demo.stdout is not None
            seen: list[str] = []
            while WORKERS_RUN not in "".join(seen[-1:]):
                seen.append(demo.stdout.readline())
                assert seen[-1], f"it ended early: {seen} {demo.communicate()}"
            yield demo, mark
        finally:
            demo.kill()


def test_it_ends_well_and_says_nothing_on_the_side(played: Played) -> None:
    assert (played.exit_code, played.errors) == (0, ""), played.output


def test_it_leaves_no_process_and_no_file(played: Played) -> None:
    played.mark.wait_until_none()
    assert list(played.temporary.iterdir()) == []


def test_the_urgent_start_before_the_others_although_they_were_enqueued_last(played: Played) -> None:
    rows = re.findall(r"^ *p([1-5]) +[0-9]+ +60 +([0-9]+) +([0-9]+)  \|", played.output, re.MULTILINE)
    places = {int(level): (int(enqueued), int(started)) for level, enqueued, started in rows}
    assert sorted(places) == [1, 2, 3, 4, 5]
    assert places[1][0] < places[3][0] < places[5][0]
    assert places[5][1] < places[3][1] < places[1][1]


def test_retries_wait_as_long_as_they_asked_for(played: Played) -> None:
    rows = re.findall(r"attempt ([0-9]) +(\w+) +([0-9]+)  ([0-9.]+)\S* s +([0-9.]+)", played.output)
    assert {(attempt, error, count) for attempt, error, count, _, _ in rows} == {
        ("1", "ConnectionError", "6"),
        ("1", "ValueError", "3"),
        ("2", "ValueError", "3"),
    }
    for attempt, _, _, asked, waited in rows:
        exact_s = float(attempt)
        assert 0.9 * exact_s <= float(asked) <= float(waited)


def test_the_dead_are_shown_with_their_reason(played: Played) -> None:
    for number in range(3):
        told = f"import_legacy  max_attempts after 3 attempts  ValueError: customers-{number}.csv: line 1 is no CSV"
        assert told in played.lines


def test_a_delayed_task_is_not_early_and_a_plain_client_is_served(played: Played) -> None:
    found = played.match(r"enqueued for 8 s later, began ([0-9.]+) s later: \"receipt for order 61 ")
    assert float(found[1]) >= 8
    played.match(r"bare JSON to shop.p5, no headers: \"receipt for order 1001 sent to cleo@example.com\"")


def test_a_trace_goes_from_the_producer_through_both_attempts_and_their_settlements(played: Played) -> None:
    tree = r"""
   send shop\.p4  \[producer\]  \+0 ms, took [0-9,]+ ms
   ├─ process shop\.p4  \[worker-[12]\]  \+[0-9,]+ ms, took [0-9,]+ ms  attempt 1, ConnectionError: the bank hung up
   │  └─ commit(?: shop\.[a-z0-9-]+)?  \[worker-[12]\]  \+[0-9,]+ ms, took [0-9,]+ ms  settled, .*
   └─ process shop\.retry-1s  \[worker-[12]\]  \+[0-9,]+ ms, took [0-9,]+ ms  attempt 2
      └─ commit(?: shop\.[a-z0-9-]+)?  \[worker-[12]\]  \+[0-9,]+ ms, took [0-9,]+ ms  settled, .*
"""
    played.match(tree)


def test_everything_that_was_enqueued_ended(played: Played) -> None:
    played.match(r"302 enqueued = 299 completed \+ 3 dead, counted by origin\.")
    played.match(r"Lag of the consumer group in Kafka's own eyes: 0\.")
    played.match(r"worker-1 exit code 0, worker-2 exit code 0\.")


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_of_it(number: signal.Signals, exit_code: int, tmp_path: Path) -> None:
    with playing(tmp_path) as (demo, mark):
        assert any("worker-1" in command for command in mark.processes().values())
        demo.send_signal(number)
        output, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (exit_code, "")
    assert output.endswith("Stopped. Nothing is left running.\n")
    mark.wait_until_none()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGINT, signal.SIGINT]])
def test_killing_it_leaves_nothing_either(signals: list[signal.Signals], tmp_path: Path) -> None:
    with playing(tmp_path) as (demo, mark):
        for number in signals:
            demo.send_signal(number)
        demo.wait(60)
    mark.wait_until_none()
    wait_until(lambda: not list(tmp_path.iterdir()), "its directories are gone")


def test_a_worker_that_dies_is_told_and_ends_it(tmp_path: Path) -> None:
    with playing(tmp_path) as (demo, mark):
        pid = next(pid for pid, command in mark.processes().items() if "worker-2" in command)
        os.kill(pid, signal.SIGKILL)
        _, errors = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert errors.startswith("fairlane: worker-2 ended by itself with exit code -9. The end of its log:")
    mark.wait_until_none()


def test_keep_leaves_a_kafka_to_play_with_and_says_how_to_stop_it(tmp_path: Path) -> None:
    state = {"FAIRLANE_STATE_DIR": str(tmp_path / "state"), "TMPDIR": str(tmp_path)}
    mark = Mark()

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fairlane", *arguments],
            env={**mark.environ, **state, **environ},
            capture_output=True,
            text=True,
            timeout=200,
        )

    try:
        done = run("demo", "--keep")
        assert done.returncode == 0, done.stdout + done.stderr
        url = re.search(r"export FAIRLANE_QUEUE_URL=(\S+)", done.stdout)
        assert url
        stats: dict[str, Any] = json.loads(run("monitor", "--json", FAIRLANE_QUEUE_URL=url[1]).stdout)
        assert (stats["queue"], stats["queue_length"], stats["dead_letters"]) == ("shop", 0, 3)
        assert "fairlane kafka stop --name demo" in done.stdout
        left = mark.processes()
        assert len(left) == 1
        assert "kafka.Kafka" in next(iter(left.values()))
    finally:
        stopped = run("kafka", "stop", "--name", "demo")
    assert stopped.returncode == 0
    mark.wait_until_none()
