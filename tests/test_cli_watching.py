"""`fairlane status`, `fairlane monitor` and `fairlane dlq` as a user types them: lines, JSON, questions, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result
from waiting import WAIT_S
from written_queue import WrittenQueue, now_ms

from fairlane.cli.main import app, main
from fairlane.monitor.errors import LetterReplayed, LetterUnknown
from fairlane.topics.errors import TaskUnknown, UsageError
from fairlane.topics.events import Counters, ErrorInfo, Heartbeat, StatusEvent, TypeTimes

pytestmark = pytest.mark.kafka

HOSTILE = "\x1b]0;owned\x07\x1b[2J [red]gone[/red] \u202e"


def run(written: WrittenQueue, *arguments: str, answer: str | None = None) -> Result:
    where = f"kafka://{written.connection.bootstrap}/{written.names.queue}"
    return CliRunner().invoke(app, arguments, input=answer, env={"FAIRLANE_QUEUE_URL": where})


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", result.stdout)
    return result.stdout.splitlines()


def as_json(result: Result) -> Any:
    return json.loads("\n".join(lines(result)))


def test_status_of_a_completed_task_is_two_lines_and_more(written: WrittenQueue) -> None:
    result = msgspec.Raw(b'"Email sent successfully"')
    written.say(
        StatusEvent(id="t1", type="email", state="completed", attempt=1, result=result, started_ms=1, finished_ms=1_201)
    )
    said = lines(run(written, "status", "--task-id", "t1"))
    assert said[:2] == ["Status: completed", "Result: Email sent successfully"]
    assert any(line.endswith("took 1.2s") for line in said)


def test_status_shows_a_result_that_is_no_text_as_json(written: WrittenQueue) -> None:
    written.say(StatusEvent(id="t1", type="sum", state="completed", result=msgspec.Raw(b'{"sum":1.10}')))
    assert lines(run(written, "status", "t1"))[1] == 'Result: {"sum":1.10}'


def test_status_of_a_failed_task_says_why_and_where_its_letter_is(written: WrittenQueue) -> None:
    place = written.enqueue(written.task("t1"))
    partition, offset = written.die(place, "fatal", ErrorInfo("ValueError", HOSTILE))[1:]
    written.say(StatusEvent(id="t1", type="email", state="failed", reason="fatal", error=ErrorInfo("E", HOSTILE)))
    said = "\n".join(lines(run(written, "status", "--task-id", "t1")))
    assert "Status: failed" in said
    assert r"Error: E: \x1b]0;owned\x07" in said
    assert "Reason: fatal" in said
    assert f"fairlane dlq show {written.names.dlq}/{partition}/{offset}" in said


def test_status_as_json_has_the_names_of_a_status_event(written: WrittenQueue) -> None:
    written.enqueue(written.task("t1"))
    found = as_json(run(written, "status", "--task-id", "t1", "--json"))
    assert (found["id"], found["state"], found["place"]["kind"]) == ("t1", "pending", "lane")
    assert set(StatusEvent.__struct_fields__) - {"v", "topic", "partition", "offset"} <= set(found)


def test_an_unknown_task_ends_with_five(written: WrittenQueue, capsys: pytest.CaptureFixture[str]) -> None:
    where = f"kafka://{written.connection.bootstrap}/{written.names.queue}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fairlane", "status", "--task-id", "nope", "--queue-url", where])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 5
    assert "kept for 7 days" in capsys.readouterr().err
    assert isinstance(run(written, "status", "nope").exception, TaskUnknown)


@pytest.mark.parametrize(
    "arguments", [["status"], ["status", "a", "--task-id", "b"], ["dlq", "show"], ["dlq", "replay"]]
)
def test_a_command_that_names_nothing_is_a_usage_error(written: WrittenQueue, arguments: list[str]) -> None:
    assert isinstance(run(written, *arguments).exception, UsageError)


def beat(written: WrittenQueue) -> None:
    written.beat(
        Heartbeat(
            # By a clock ahead of ours: it is alive however long a busy machine takes to look.
            worker="w1", at_ms=now_ms() + 600_000, started_ms=now_ms() - 60_000, concurrency=10, running=8,
            utilisation=0.8,
            counters=Counters(100, 2, 3), types={"email": TypeTimes(50, 1_200.0, 2_000.0)},
        )
    )  # fmt: skip


def test_monitor_once_begins_with_the_lines_of_the_contract(written: WrittenQueue) -> None:
    beat(written)
    for _ in range(3):
        written.enqueue(written.task())
    said = lines(run(written, "monitor", "--once"))
    assert said[:4] == ["Queue Length: 3", "Running Tasks: 8", "Workers: 1/1 active", "Avg Process Time: 1.2s"]
    assert any(line.startswith("p3 ") for line in said)
    assert any(line.startswith("w1 ") for line in said)


def test_monitor_without_a_terminal_ends_by_itself(written: WrittenQueue) -> None:
    assert lines(run(written, "monitor"))[0] == "Queue Length: 0"


def test_monitor_as_json_has_the_fields_of_the_brief(written: WrittenQueue) -> None:
    beat(written)
    stats = as_json(run(written, "monitor", "--json"))
    assert (stats["queue_length"], stats["running_tasks"], stats["worker_count"]) == (0, 8, 1)
    assert (stats["completed_tasks"], stats["failed_tasks"], stats["avg_process_time_s"]) == (100, 2, 1.2)


def test_the_live_view_is_drawn_quits_on_q_and_leaves_the_terminal_as_it_was(written: WrittenQueue) -> None:
    beat(written)
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    where = f"kafka://{written.connection.bootstrap}/{written.names.queue}"
    start = "from fairlane.cli.main import main; main()"
    command = [sys.executable, "-c", start, "monitor", "--queue-url", where, "--interval", "0.2"]
    viewer = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
    )  # fmt: skip
    try:
        drawn = read_until(ours, b"Running Tasks: 8 of 10")
        assert b"\x1b[?1049h" in drawn  # the other screen
        assert termios.tcgetattr(theirs) != before
        os.write(ours, b"q")
        rest = read_until(ours, b"\x1b[?1049l")  # back to the first
        assert rest
        assert viewer.wait(60) == 0
        assert termios.tcgetattr(theirs) == before
        assert viewer.stderr is not None
        assert viewer.stderr.read() == b""
    finally:
        viewer.kill()
        viewer.wait(10)
        if viewer.stderr is not None:
            viewer.stderr.close()
        os.close(ours)
        os.close(theirs)


def read_until(descriptor: int, wanted: bytes, timeout_s: float = WAIT_S) -> bytes:
    read = b""
    deadline = time.monotonic() + timeout_s
    while wanted not in read:
        assert time.monotonic() < deadline, f"{wanted!r} is not in {read[-2000:]!r}"
        if select.select([descriptor], [], [], 0.1)[0]:
            read += os.read(descriptor, 65_536)
    return read


def kill(written: WrittenQueue, task_id: str, **fields: object) -> str:
    """A letter of a task; how `list` names it."""
    place = written.enqueue(written.task(task_id, **fields))
    _, partition, offset = written.die(place, "max_attempts", ErrorInfo("OSError", HOSTILE, "Traceback\n" + HOSTILE))
    return f"{partition}/{offset}"


def test_dlq_list_is_a_table_that_hides_what_was_replayed(written: WrittenQueue) -> None:
    first, second = kill(written, "a"), kill(written, "b", type="report")
    said = lines(run(written, "dlq", "list"))
    assert said[0].split() == ["Letter", "Type", "Reason", "Error", "Died", "Attempts", "From", "Task"]
    assert [line.split()[0] for line in said[1:3]] == [second, first]
    assert "[red]gone[/red]" in said[1]
    assert run(written, "dlq", "replay", first).exit_code == 0
    said = lines(run(written, "dlq", "list"))
    assert said[-1] == "1 letter. 1 other was replayed: --all shows them."
    assert as_json(run(written, "dlq", "list", "--all", "--json"))["letters"][1]["replayed"]["who"]


def test_dlq_list_of_a_healthy_queue_says_so(written: WrittenQueue) -> None:
    assert lines(run(written, "dlq", "list")) == ["No dead letters."]


def test_dlq_show_has_everything_and_nothing_that_acts(written: WrittenQueue) -> None:
    letter = kill(written, "a", payload=b'{"to":"ada\\u001b[31m","n":1.10}')
    said = lines(run(written, "dlq", "show", letter))
    text = "\n".join(said)
    for part in ("Reason: max_attempts", '"n": 1.10', "ce_type: email", "Traceback:", r"\x1b[2J"):
        assert part in text
    shown = as_json(run(written, "dlq", "show", "--task-id", "a", "--json"))
    assert shown["payload"] == {"to": "ada\x1b[31m", "n": 1.1}
    assert shown["traceback"].startswith("Traceback")


def test_dlq_show_of_bytes_is_hex_or_base64(written: WrittenQueue) -> None:
    place = written.send(written.names.lane(3), b"\xff\x00", b"k", [("ce_type", b"raw"), ("ce_id", b"a")])
    written.die(place, "fatal")
    assert any("ff 00" in line for line in lines(run(written, "dlq", "show", "--task-id", "a")))
    assert as_json(run(written, "dlq", "show", "--task-id", "a", "--json"))["payload_base64"] == "/wA="


def test_dlq_show_of_nothing_ends_with_five(written: WrittenQueue) -> None:
    error = run(written, "dlq", "show", "0/99").exception
    assert isinstance(error, LetterUnknown)
    assert error.exit_code == 5


def test_one_letter_is_replayed_without_asking_and_twice_only_with_again(written: WrittenQueue) -> None:
    letter = kill(written, "a")
    (said,) = lines(run(written, "dlq", "replay", letter))
    assert said.startswith(f"Replayed: {written.names.dlq}/{letter} to {written.names.lane(3)}/")
    assert said.endswith("task a")
    error = run(written, "dlq", "replay", "--task-id", "a").exception
    assert isinstance(error, LetterReplayed)
    assert "--again" in str(error)
    assert run(written, "dlq", "replay", letter, "--again").exit_code == 0
    assert len(written.everything(written.names.lane(3))) == 3


def test_many_letters_are_counted_and_agreed_to(written: WrittenQueue) -> None:
    for task_id in ("a", "b", "c"):
        kill(written, task_id, key=b"k")
    refused = run(written, "dlq", "replay", "--type", "email")
    assert isinstance(refused.exception, UsageError)
    assert "      3  email (max_attempts)" in refused.stderr
    assert len(written.everything(written.names.lane(3))) == 3
    said = lines(run(written, "dlq", "replay", "--type", "email", "--yes"))
    assert said[-1] == "3 letters replayed."
    assert [line.split()[-1] for line in said[:3]] == ["a", "b", "c"]  # the first to die goes first
    done = as_json(run(written, "dlq", "replay", "--all", "--again", "--yes", "--json"))
    assert [one["task_id"] for one in done["done"]] == ["a", "b", "c"]


def test_a_letter_of_another_queue_is_refused(written: WrittenQueue) -> None:
    assert isinstance(run(written, "dlq", "replay", "other.dlq/0/0").exception, UsageError)
