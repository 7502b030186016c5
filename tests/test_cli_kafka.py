"""`fairlane kafka` as a person types it: what it prints, what it ends with, what still runs afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fairlane.kafka.ports import choose_nodes

pytestmark = pytest.mark.kafka

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs `fairlane kafka …` in a state directory of its own; whatever it started is stopped."""
    monkeypatch.setenv("FAIRLANE_STATE_DIR", str(tmp_path / "state"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "fairlane"), "kafka", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)

    yield run
    for kafka in json.loads(run("status", "--json").stdout):
        assert run("stop", "--name", kafka["name"]).returncode == 0


@pytest.fixture
def port() -> int:
    return choose_nodes(1, 0)[0].port


def status(run: Run) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = json.loads(run("status", "--json").stdout)
    return shown


def test_start_use_stop_start_again(run: Run, port: int) -> None:
    """The life of a Kafka on a laptop, with its data kept over a stop."""
    started = run("start", "--port", str(port))
    assert started.returncode == 0, started.stderr
    assert f"export FAIRLANE_QUEUE_URL=kafka://localhost:{port}/" in started.stdout

    # The command has ended, and its Kafka is there.
    admin = AdminClient({"bootstrap.servers": f"localhost:{port}"})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(60)
    [shown] = status(run)
    assert shown["bootstrap"] == f"localhost:{port}"
    assert shown["brokers"][0]["running"] is True
    assert Path(shown["brokers"][0]["log"]).stat().st_size > 0

    again = run("start", "--port", str(port))
    assert (again.returncode, "already running" in again.stdout) == (0, True)
    assert [each["brokers"][0]["pid"] for each in status(run)] == [shown["brokers"][0]["pid"]]

    other = run("start", "--name", "other", "--port", str(port))
    assert other.returncode == 1
    assert other.stderr.startswith(f"fairlane: port {port} on 127.0.0.1 is taken by fairlane's own Kafka 'default'")

    stopped = run("stop")
    assert (stopped.returncode, status(run)) == (0, [])
    assert "its data stays in" in stopped.stdout

    assert run("start", "--port", str(port)).returncode == 0
    assert "kept" in AdminClient({"bootstrap.servers": f"localhost:{port}"}).list_topics(timeout=60).topics


def test_what_does_not_run_cannot_be_stopped_or_shown(run: Run) -> None:
    for arguments in (("stop",), ("stop", "--name", "nope"), ("status", "--name", "nope")):
        ended = run(*arguments)
        assert ended.returncode == 1, arguments
        assert ended.stderr.startswith("fairlane: no Kafka named"), arguments
    shown = run("status")
    assert shown.returncode == 0
    assert "fairlane kafka start" in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [("start", "--port", "99999"), ("start", "--port", "x"), ("start", "--brokers", "0"), ("stop", "--name", "../x")],
)
def test_nonsense_is_a_usage_error(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2
