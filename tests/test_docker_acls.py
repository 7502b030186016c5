"""The commands that `fairlane topics acls` prints work with Kafka's own tool, and are enough for each role.

What do these tests do? They start one secured broker, run the printed commands in its container, and let every role do
its work by the commands that people type, logged in as that role.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from compose_project import ROOT, ComposeProject

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ROLES = ("admin", "producer", "worker", "monitor", "operator")
TOOL = "/opt/kafka/bin/kafka-acls.sh --bootstrap-server localhost:19092"
FAIRLANE = str(Path(sys.executable).with_name("fairlane"))


@pytest.fixture(scope="module")
def project() -> Iterator[ComposeProject]:
    project = ComposeProject(ROOT / "tests/compose/secured-kafka.yml")
    try:
        project.compose("up", "--wait", timeout_s=200)
        roles = [part for role in ROLES for part in (f"--{role}", f"User:{role}")]
        commands = fairlane(project, "admin", "topics", "acls", *roles).stdout
        script = commands.replace(f"kafka-acls.sh --bootstrap-server {project.bootstrap}", TOOL)
        project.compose("exec", "-T", "kafka", "sh", "-ec", script, timeout_s=200)
        assert fairlane(project, "admin", "topics", "create").returncode == 0
        yield project
    finally:
        project.compose("down", "--volumes")
    assert not project.leftovers()


def logged_in(project: ComposeProject, role: str) -> dict[str, str]:
    return {
        **os.environ,
        "FAIRLANE_QUEUE_URL": f"kafka://{project.bootstrap}/shop",
        "FAIRLANE_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "FAIRLANE_KAFKA__SASL_MECHANISM": "PLAIN",
        "FAIRLANE_KAFKA__SASL_USERNAME": role,
        "FAIRLANE_KAFKA__SASL_PASSWORD": role,
    }


def fairlane(project: ComposeProject, role: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a role."""
    return subprocess.run(
        [FAIRLANE, *arguments],
        env=logged_in(project, role),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def worker(project: ComposeProject, log: Path) -> Iterator[None]:
    """A worker with a worker's rights, which ends in good order."""
    command = [FAIRLANE, "worker", "fairlane.demo.tasks:app", "--workers", "4"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=logged_in(project, "worker"), stderr=output, cwd=log.parent)
    try:
        yield
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_every_role_does_its_work_with_its_rights(project: ComposeProject, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with worker(project, log):
        receipt = ("--type", "send_receipt", "--payload", '{"order": 1, "to": "ann@example.com"}')
        done = fairlane(project, "producer", "enqueue", *receipt, "--wait", "40s")
        assert "Status: completed" in done.stdout, done.stderr + log.read_text()
        later = fairlane(project, "producer", "enqueue", *receipt, "--delay", "1s", "--wait", "40s")
        assert "Status: completed" in later.stdout, later.stderr
        dead = fairlane(
            project, "producer", "enqueue", "--type", "import_legacy", "-p", '{"file": "a"}', "--wait", "40s"
        )
        assert "Status: failed" in dead.stdout, dead.stderr

        seen = fairlane(project, "monitor", "monitor", "--once", "--json")
        assert json.loads(seen.stdout)["worker_count"] == 1, seen.stderr
        letters = fairlane(project, "monitor", "dlq", "list")
        assert "import_legacy" in letters.stdout, letters.stderr
        replayed = fairlane(project, "operator", "dlq", "replay", "--all", "--yes")
        assert replayed.returncode == 0, replayed.stderr

        task_id = done.stdout.splitlines()[0].removeprefix("Task enqueued: ")
        status = fairlane(project, "monitor", "status", "--task-id", task_id)
        assert "Status: completed" in status.stdout, status.stderr
    assert "authoriz" not in log.read_text().lower()


def test_the_declared_topics_are_seen_by_those_who_check_them(project: ComposeProject) -> None:
    for role in ("admin", "worker", "monitor", "operator"):
        checked = fairlane(project, role, "topics", "check")
        assert checked.returncode == 0, f"{role}: {checked.stdout}"


def test_a_role_has_no_rights_of_another(project: ComposeProject) -> None:
    task = ("enqueue", "--type", "send_receipt", "--payload", "{}", "--timeout", "5s")
    assert fairlane(project, "monitor", *task).returncode != 0
    assert fairlane(project, "worker", "topics", "delete", "--yes").returncode != 0
    assert fairlane(project, "producer", "dlq", "list", "--timeout", "5").returncode != 0


def test_an_admin_deletes_what_it_made(project: ComposeProject) -> None:
    deleted = fairlane(project, "admin", "topics", "delete", "--yes")
    assert deleted.returncode == 0, deleted.stderr
    assert fairlane(project, "admin", "topics", "check").returncode == 4
