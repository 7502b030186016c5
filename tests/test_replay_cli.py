"""`fairlane replay` as a user types it: what it writes is run by workers; stopped, killed, and as its page shows it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from live_queue import wait_until
from typer.testing import CliRunner, Result
from worker_processes import worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane.cli.main import app
from fairlane.monitor.errors import JobUnknown
from fairlane.topics.errors import UsageError

pytestmark = pytest.mark.kafka

PAGE = (Path(__file__).parent.parent / "docs" / "replay.md").read_text()
TASKS = """
from fairlane import Fairlane, context

app = Fairlane("{queue}")

@app.task
async def email(n: int) -> str:
    found = dict(context().task.headers)
    return (found.get("fairlane-replay-of") or b"").decode()

@app.task
async def report(n: int) -> None:
    pass
"""
COUNT = 60


@pytest.fixture(scope="module")
def queue(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkingQueue]:
    """A queue whose workers have run some tasks, and run what comes."""
    folder = tmp_path_factory.mktemp("app")
    with working_queue(kafka, partitions=2) as made, worker_processes(made, TASKS, folder) as workers:
        workers.start("w")
        tasks = [made.task("email", b'{"n":%d}' % number, task_id=f"old-{number}") for number in range(COUNT)]
        made.send(*tasks, *[made.task("report", b'{"n":%d}' % number, level=5) for number in range(4)])
        made.wait_ended(COUNT + 4)
        yield made


def run(queue: WorkingQueue, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["replay", *arguments], env={"FAIRLANE_QUEUE_URL": url(queue)})


def url(queue: WorkingQueue) -> str:
    return f"kafka://{queue.bootstrap}/{queue.names.queue}"


def said(queue: WorkingQueue, *arguments: str) -> str:
    result = run(queue, *arguments)
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    return result.stdout


def settled(queue: WorkingQueue, *arguments: str, count: int) -> str:
    """The dry run, once the workers have committed what they have settled."""
    wait_until(lambda: json.loads(said(queue, *arguments, "--dry-run", "--json"))["count"] == count, "all is settled")
    return said(queue, *arguments, "--dry-run")


def started(queue: WorkingQueue, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fairlane", "replay", *arguments]
    environment = os.environ | {"FAIRLANE_QUEUE_URL": url(queue)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def again(queue: WorkingQueue) -> Counter[str]:
    """Of which old tasks the workers have run new ones, and how often."""
    ended = [event for events in queue.terminal().values() for event in events]
    return Counter(json.loads(bytes(event.result)) for event in ended if event.type == "email") - Counter({"": COUNT})


def job_of(queue: WorkingQueue) -> str:
    audit = CliRunner().invoke(app, ["audit", "--json"], env={"FAIRLANE_QUEUE_URL": url(queue)})
    return str(json.loads(audit.stdout)[0]["job"])


def end(process: subprocess.Popen[str], how: int) -> tuple[int, str]:
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def all_once(queue: WorkingQueue, times: int) -> bool:
    return again(queue) == Counter({f"old-{number}": times for number in range(COUNT)})


def test_what_ran_runs_again_once_though_the_command_is_stopped_and_killed(queue: WorkingQueue) -> None:
    told = settled(queue, "--lane", "p3", "--type", "email", "--first", "1", count=COUNT)
    assert f"{COUNT} tasks would run again; nothing was done." in told
    assert f"{COUNT}  email in {queue.names.lane(3)}\nEnqueued from " in told
    assert re.search(r"/\d+, task old-\d+, email, ", told)
    unsure = run(queue, "--type", "email")
    assert isinstance(unsure.exception, UsageError)
    assert "--yes" in str(unsure.exception)

    first = started(queue, "--type", "email", "--rate", "20", "--yes")
    wait_until(lambda: len(again(queue)) >= 5, "some run again")
    code, errors = end(first, signal.SIGINT)
    job = job_of(queue)
    assert (code, f"fairlane replay --resume {job} --queue {queue.names.queue}" in errors) == (130, True)
    stopped_at = len(again(queue))

    second = started(queue, "--resume", job, "--rate", "20", "--yes")
    wait_until(lambda: len(again(queue)) > stopped_at, "it goes on")
    assert end(second, signal.SIGKILL)[0] == -signal.SIGKILL
    assert len(again(queue)) < COUNT

    assert f"{COUNT} in all. Job {job}." in said(queue, "--resume", job, "--yes")
    wait_until(lambda: all_once(queue, 1), "all have run again")
    assert run(queue, "--resume", job, "--yes").exit_code == 1
    assert "No task that fits is left" in run(queue, "--resume", job).output


def test_what_cannot_be_is_refused(queue: WorkingQueue) -> None:
    for arguments, what in (
        ([], "no task is chosen"),
        (["--from", "1h", "--to", "2h"], "--from is not before --to"),
        (["--lane", "p9"], "has no lane"),
        (["--from", "yesterday"], "--from"),
    ):
        error = run(queue, *arguments).exception
        assert isinstance(error, UsageError)
        assert what in str(error)
    nothing = run(queue, "--type", "unheard-of")
    assert (nothing.exit_code, "No task that fits has run." in nothing.output) == (1, True)


def commands(language: str) -> Sequence[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_is_what_the_commands_do(
    queue: WorkingQueue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIRLANE_QUEUE_URL", url(queue))
    before = Counter(event.type for events in queue.terminal().values() for event in events)["email"]
    typed = re.findall(r"^\$ fairlane replay (.*?)(?: +#.*)?$", commands("console")[0], re.MULTILINE)
    assert "would run again" in settled(queue, *typed[0].split()[:-1], count=COUNT)
    (source,) = commands("python")
    source = source.replace('Fairlane("shop")', f'Fairlane("{queue.names.queue}")').replace("per_s=50", "per_s=500")
    exec(compile(source, "replay.md", "exec"), {})
    printed = capsys.readouterr().out
    assert f"{COUNT} (('email', '{queue.names.lane(3)}', {COUNT}),)" in printed
    assert printed.count(" runs again as ") == COUNT

    def all_have_run() -> bool:
        ended = Counter(event.type for events in queue.terminal().values() for event in events)
        return ended["email"] == before + COUNT

    wait_until(all_have_run, "all have run")
    assert typed[2].startswith("--resume ")
    assert isinstance(run(queue, *typed[2].split()).exception, JobUnknown)
