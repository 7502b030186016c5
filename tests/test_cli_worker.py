"""`fairlane worker` as a user types it: what it says when it cannot work, and what it ends with."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from working_queue import working_queue

from fairlane.cli import worker as command
from fairlane.pool_size import PoolSize
from fairlane.settings import Settings

NOWHERE = "kafka://127.0.0.1:9/shop"


def worker(folder: Path, *arguments: str, url: str = NOWHERE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fairlane", "worker", *arguments],
        cwd=folder,
        env={**os.environ, "FAIRLANE_QUEUE_URL": url, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop_tasks.py").write_text(
        "from fairlane import Fairlane\napp = Fairlane('shop')\nother = 3\n@app.task()\nasync def work() -> None: ...\n"
    )
    (tmp_path / "broken_tasks.py").write_text("import fairlane\nraise KeyError('config')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere_tasks:app"], "there is no module 'nowhere_tasks'"),
        (["shop_tasks:missing"], "shop_tasks:missing is nothing"),
        (["shop_tasks:other"], "shop_tasks:other is a int, not a Fairlane app"),
        (["broken_tasks:app"], "broken_tasks.py:2"),
        (["shop_tasks:"], "names no app"),
        # A queue that the app does not name is a usage error.
        (["shop_tasks:app", "--queue", "till"], "works on queue 'shop', not on 'till'"),
        (["shop_tasks:app", "-X", "acks=1"], "acks"),
        (["shop_tasks:app", "--workers", "0"], "--workers"),
        (["shop_tasks:app", "--processes", "8..2"], "'8..2' ends before it begins; say 2..8"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(folder: Path, arguments: list[str], says: str) -> None:
    done = worker(folder, *arguments)
    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_no_kafka_is_exit_code_3_with_what_to_do(folder: Path) -> None:
    done = worker(folder, "shop_tasks:app")
    assert done.returncode == 3, done.stderr
    assert "fairlane kafka start" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.kafka
def test_a_queue_that_was_not_made_is_exit_code_4_with_the_command_that_makes_it(
    folder: Path, kafka: str, queue: str
) -> None:
    (folder / "shop_tasks.py").write_text(f"from fairlane import Fairlane\napp = Fairlane({queue!r})\n")
    done = worker(folder, "shop_tasks", url=f"kafka://{kafka}")
    assert done.returncode == 4, done.stderr
    assert f"fairlane topics create --queue {queue}" in done.stderr


@pytest.mark.kafka
def test_a_queue_whose_lane_loses_data_is_refused_with_exit_code_4(folder: Path, kafka: str) -> None:
    with working_queue(kafka) as made:
        lane = made.names.lane(5)
        entry = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, lane, incremental_configs=[entry])
        admin = AdminClient({"bootstrap.servers": kafka})
        for answer in admin.incremental_alter_configs([resource]).values():
            answer.result(60)
        (folder / "shop_tasks.py").write_text(f"from fairlane import Fairlane\napp = Fairlane({made.names.queue!r})\n")
        done = worker(folder, "shop_tasks", url=f"kafka://{kafka}")
    assert done.returncode == 4, done.stderr
    assert lane in done.stderr
    assert "retention.ms" in done.stderr


@pytest.mark.kafka
def test_check_says_what_a_worker_would_start_with_and_joins_nothing(folder: Path, kafka: str) -> None:
    with working_queue(kafka) as made:
        queue = made.names.queue
        (folder / "shop_tasks.py").write_text(
            f"from fairlane import Adaptive, Fairlane\napp = Fairlane({queue!r})\n"
            "@app.task(concurrency=Adaptive(2, 8))\nasync def query() -> None: ...\n"
            "@app.task(timeout_s=3)\nasync def send() -> None: ...\n"
            "@app.task(concurrency=2)\ndef resize() -> None: ...\n"
        )
        done = worker(folder, "shop_tasks:app", "--check", "--workers", "3..10", url=f"kafka://{kafka}")
        groups = AdminClient({"bootstrap.servers": kafka}).list_consumer_groups().result(60).valid
        assert made.names.group not in {group.group_id for group in groups}
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert f"shop_tasks:app, queue {queue}, 10 tasks at once" in said
    assert "query async def, 2 to 8 at once resize def, on a thread, 2 at once" in said
    assert "send async def, timeout 3 s, 3 to 10 at once" in said
    assert f"{queue}.p5 (weight 16)" in said
    assert "tiers 1s, 5s, 1m, 10m, 2h, 1d" in said
    assert f"kafka {kafka} answers" in said
    assert "A worker would start." in said


@pytest.mark.kafka
def test_check_of_a_queue_that_was_not_made_is_exit_code_4(folder: Path, kafka: str, queue: str) -> None:
    source = (folder / "shop_tasks.py").read_text()
    (folder / "shop_tasks.py").write_text(source.replace("'shop'", repr(queue)))
    done = worker(folder, "shop_tasks:app", "--check", url=f"kafka://{kafka}")
    assert done.returncode == 4, done.stderr
    assert f"fairlane topics create --queue {queue}" in done.stderr


def test_check_without_kafka_is_exit_code_3(folder: Path) -> None:
    done = worker(folder, "shop_tasks:app", "--check")
    assert done.returncode == 3, done.stderr
    assert "work" in done.stdout, "what was found before that is said"


def test_check_of_an_app_without_handlers_is_exit_code_2(folder: Path) -> None:
    (folder / "empty_tasks.py").write_text("from fairlane import Fairlane\napp = Fairlane('shop')\n")
    done = worker(folder, "empty_tasks:app", "--check")
    assert done.returncode == 2, done.stderr
    assert "has no handlers" in done.stderr


def test_a_health_port_that_is_taken_is_exit_code_2(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = worker(folder, "shop_tasks:app", "--health-port", str(taken.getsockname()[1]))
    assert done.returncode == 2, done.stderr
    assert "--health-port" in done.stderr
    assert "Traceback" not in done.stderr


def test_only_those_of_a_pool_that_always_run_are_static_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is ended for good would hold its partitions back from the others for a session timeout."""
    made: list[tuple[list[str], PoolSize | None]] = []

    class Pool:
        def __init__(
            self, names: list[str], command_of: Callable[[int, int], list[str]], *, size: PoolSize | None, **_: object
        ) -> None:
            commands = [command_of(slot, 9) for slot in range(len(names))]
            static = [each[each.index("--instance-id") + 1] for each in commands if "--instance-id" in each]
            made.append((static, size))

        def run(self) -> int:
            return 0

    monkeypatch.setattr(command, "Supervisor", Pool)
    for processes in ("2..4", "2"):
        settings = Settings(processes=processes, scale_age_s=7)
        assert command._pool("shop_tasks:app", settings, "shop", {}, ()) == 0
    (static, size), (fixed, none) = made
    assert static == fixed == ["shop-0", "shop-1"]
    assert size is not None
    assert size.least == 2
    assert none is None


@pytest.mark.parametrize(("port", "ports"), [(8080, ["8080", "8081"]), (0, ["0", "0"])])
def test_every_worker_of_a_pool_answers_at_a_health_port_of_its_own(
    monkeypatch: pytest.MonkeyPatch, port: int, ports: list[str]
) -> None:
    commands: list[list[str]] = []

    class Pool:
        def __init__(self, names: list[str], command_of: Callable[[int, int], list[str]], **_: object) -> None:
            commands.extend(command_of(slot, 9) for slot in range(len(names)))

        def run(self) -> int:
            return 0

    monkeypatch.setattr(command, "Supervisor", Pool)
    assert command._pool("shop_tasks:app", Settings(processes=2, health_port=port), "", {}, ()) == 0
    assert [each[each.index("--health-port") + 1] for each in commands] == ports
