"""The commands by which operators ask things of workers, as a user types them, on a queue that nobody works on."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result
from working_queue import WorkingQueue, working_queue

from fairlane.cli.main import app
from fairlane.monitor import control
from fairlane.topics.audit import decode_audit
from fairlane.topics.control import CANCELS_MAX
from fairlane.topics.control_errors import TooManyCancels
from fairlane.topics.errors import UsageError

pytestmark = pytest.mark.kafka

PAGE = (Path(__file__).parent.parent / "docs" / "control.md").read_text()


@pytest.fixture(scope="module")
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=1) as made:
        yield made


def run(queue: WorkingQueue, *arguments: str) -> Result:
    where = f"kafka://{queue.bootstrap}/{queue.names.queue}"
    return CliRunner().invoke(app, arguments, env={"FAIRLANE_QUEUE_URL": where})


def said(queue: WorkingQueue, *arguments: str) -> str:
    result = run(queue, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_pause_is_listed_shown_explained_and_taken_back(queue: WorkingQueue) -> None:
    task = queue.task("quick")
    queue.send(task)
    lane = queue.names.lane(3)
    assert "Nothing is paused" in said(queue, "control", "list")
    assert f"{lane} is paused by " in said(
        queue, "pause", "--lane", "3", "--for", "10m", "--reason", "the bank \x1b[2J"
    )
    (listed,) = json.loads(said(queue, "control", "list", "--json"))
    assert (listed["kind"], listed["scope"], listed["via"]) == ("pause", f"lane:{lane}", "cli")
    assert listed["until_ms"] - listed["at_ms"] == pytest.approx(600_000, abs=60_000)
    assert f"{lane} is paused by " in said(queue, "monitor", "--once")
    explained = json.loads(said(queue, "explain", task.id, "--json"))
    assert explained["held_by"] == "paused"
    assert f"--lane {lane}" in explained["advice"]
    said(queue, "pause")
    assert f"Still so: {lane} is paused" in said(queue, "resume")
    assert "goes on" in said(queue, "resume", "--lane", "p3")
    assert isinstance(run(queue, "resume").exception, UsageError)
    actions = [line for line in said(queue, "audit", "--json").splitlines() if line]
    done = json.loads("\n".join(actions))
    assert [(each["action"], each["target"]) for each in reversed(done)] == [
        ("pause", lane), ("pause", "queue"), ("resume", "queue"), ("resume", lane)
    ]  # fmt: skip


def test_a_weight_is_listed_shown_and_taken_back(queue: WorkingQueue) -> None:
    lane = queue.names.lane(3)
    asked = said(queue, "weight", "p3=40", "p1=2", "--for", "10m", "--reason", "catch up").splitlines()
    assert asked[0].startswith(f"{lane} has weight 40, asked by ")
    assert asked[0].endswith(": catch up.")
    assert f"{lane} = 40" in said(queue, "control", "list")
    assert f"{lane} has weight 40, asked by " in said(queue, "monitor", "--once")
    weights = {
        each["topic"]: each["weight"] for each in json.loads(said(queue, "monitor", "--once", "--json"))["lanes"]
    }
    assert (weights[lane], weights[queue.names.lane(1)], weights[queue.names.lane(5)]) == (40, 2, 16)
    assert said(queue, "weight", "--off", "p3") == f"{lane} has its configured weight again.\n"
    assert isinstance(run(queue, "weight", "--off", "p3").exception, UsageError)
    assert queue.names.lane(1) in said(queue, "weight", "--off")
    assert said(queue, "weight", "--off") == "No lane had another.\n"
    done = json.loads(said(queue, "audit", "--json"))
    assert [(each["target"], each["details"].get("weight")) for each in done if each["action"] == "weight"] == [
        (queue.names.lane(1), None), (lane, None), (queue.names.lane(1), 2), (lane, 40)
    ]  # fmt: skip


def test_a_pause_of_a_type_is_listed_shown_explained_and_taken_back(queue: WorkingQueue) -> None:
    task, other = queue.task("mail"), queue.task("quick")
    queue.send(task, other)
    assert said(queue, "pause", "--type", "mail").startswith("type mail is paused by ")
    assert "type mail is paused by " in said(queue, "monitor", "--once")
    explained = json.loads(said(queue, "explain", task.id, "--json"))
    assert (explained["held_by"], "resume" in explained["advice"], "--type mail" in explained["advice"]) == (
        "paused", True, True
    )  # fmt: skip
    assert json.loads(said(queue, "explain", other.id, "--json"))["held_by"] == "no_workers"
    assert "type:mail" in said(queue, "control", "list")
    assert "type mail goes on" in said(queue, "resume", "--type", "mail")
    assert isinstance(run(queue, "resume", "--type", "mail").exception, UsageError)


def test_kill_switches_and_demotions_are_listed_shown_explained_and_taken_back(queue: WorkingQueue) -> None:
    task = queue.task("mail")
    queue.send(task)
    lane = queue.names.lane(1)
    assert said(
        queue, "kill", "--type", "mail", "--action", "dlq", "--where", '/to = "x@y"', "--reason", "spam"
    ).startswith('type mail where /to = "x@y" goes to the dead letters, asked by ')
    explained = json.loads(said(queue, "explain", task.id, "--json"))
    assert explained["held_by"] == "killed"
    assert explained["why"].startswith("it may fit a kill-switch")
    said(queue, "kill", "--type", "mail", "--action", "drop", "--for", "1h")
    assert "it ends when a worker reads it" in said(queue, "explain", task.id)
    assert said(queue, "demote", "--type", "mail", "--to", "p1").startswith(f"type mail is moved to {lane}, asked by ")
    shown = said(queue, "monitor", "--once")
    assert all(line in shown for line in ("type mail is cancelled, asked", f"type mail is moved to {lane}, asked"))
    listed = json.loads(said(queue, "control", "list", "--json"))
    assert {(each["kind"], each["scope"]) for each in listed} >= {
        ("kill", 'type:mail?/to = "x@y"'), ("kill", "type:mail"), ("demote", "type:mail")
    }  # fmt: skip
    assert said(queue, "kill", "--type", "mail", "--off").count("No more: type mail") == 2
    assert "No more" in said(queue, "demote", "--type", "mail", "--off")
    for command in ("kill", "demote"):
        assert isinstance(run(queue, command, "--type", "mail", "--off").exception, UsageError)
    done = json.loads(said(queue, "audit", "--json"))
    kills = [each["details"] for each in done if each["action"] == "kill" and each["target"] == "type:mail"]
    assert {"fate": "dlq", "where": '/to = "x@y"', "reason": "spam"} in kills
    assert {"where": '/to = "x@y"', "taken_back": True} in kills


def test_a_cancel_says_what_there_was_to_cancel(queue: WorkingQueue) -> None:
    task = queue.task("quick")
    queue.send(task)
    both = said(queue, "cancel", task.id, "nobody-knows", "--reason", "twice").splitlines()
    assert both[0] == f"{task.id}: cancelled: it was pending, and does not run"
    assert both[1].startswith("nobody-knows: nothing speaks of it")
    assert run(queue, "cancel", "nobody-knows").exit_code == 5
    listed = json.loads(said(queue, "control", "list", "--json"))
    assert {each["scope"]: each.get("reason", "") for each in listed if each["kind"] == "cancel"} == {
        f"task:{task.id}": "twice", "task:nobody-knows": ""
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause", "--lane", "p9"),
        ("pause", "--for", "10m", "--until", "2030-01-01T00:00:00Z"),
        ("pause", "--until", "tomorrow"),
        ("pause", "--until", "2020-01-01T00:00:00Z"),
        ("resume", "--lane", "p1"),
        ("cancel", "no\nid"),
        ("pause", "--lane", "p3", "--type", "mail"),
        ("pause", "--type", "no\ntype"),
        ("kill", "--type", "mail"),
        ("kill", "--type", "mail", "--action", "burn"),
        ("kill", "--type", "mail", "--action", "drop", "--where", "to is x"),
        ("demote", "--type", "mail"),
        ("demote", "--type", "mail", "--to", "p9"),
        ("weight",),
        ("weight", "p3"),
        ("weight", "p9=3"),
        ("weight", "p3=0"),
        ("weight", "p3=10001"),
    ],
)
def test_what_makes_no_sense_is_refused_and_says_what_does(queue: WorkingQueue, arguments: tuple[str, ...]) -> None:
    result = run(queue, *arguments)
    assert isinstance(result.exception, UsageError)
    assert result.exception.hint


def test_more_cancels_than_workers_can_hold_are_refused(queue: WorkingQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CANCELS_MAX == 100_000
    monkeypatch.setattr(control, "CANCELS_MAX", 3)
    result = run(queue, "cancel", "a", "b", "c", "d")
    assert isinstance(result.exception, TooManyCancels)
    assert "fairlane pause --lane" in str(result.exception)


def test_what_was_done_is_in_the_audit_with_who_and_why(queue: WorkingQueue) -> None:
    from live_queue import records

    said(queue, "pause", "--lane", "p2", "--reason", "why not")
    said(queue, "resume", "--lane", "p2")
    found = [
        record
        for message in records(queue.bootstrap, queue.names.audit)
        if (record := decode_audit(message.value() or b""))
    ]
    asked = [each for each in found if each.target == queue.names.lane(2)]
    assert [(each.action, each.via, each.details) for each in asked] == [
        ("pause", "cli", {"reason": "why not"}), ("resume", "cli", {})
    ]  # fmt: skip
    assert all("@" in each.who for each in asked)


def test_the_example_of_the_page_runs(
    queue: WorkingQueue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker is there only when all is asked: it obeys from its first task on."""
    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    monkeypatch.setenv("FAIRLANE_QUEUE_URL", f"kafka://{queue.bootstrap}/{queue.names.queue}")
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)

    async def mail(to: str) -> str:
        return f"sent to {to}"

    with queue.worker(mail, start_wait_s=0.0):
        exec(
            compile(source.replace('Fairlane("shop")', f'Fairlane("{queue.names.queue}")'), "control.md", "exec"),
            vars(module),
        )
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("['pause'")
    assert printed[1] in ("by", "sent to ann@example.com") or "sent by hand" in printed[1]
