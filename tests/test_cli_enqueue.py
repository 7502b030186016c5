"""`fairlane enqueue` on a real Kafka: what is sent, what is printed, and with which code it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_queue import headers_of, live_queue, records, wait_until
from standin_settler import StandinSettler, completed, ended
from typer.testing import CliRunner, Result

from fairlane.cli.durations import parse_duration_s
from fairlane.cli.main import app
from fairlane.topics.errors import (
    KafkaUnreachable,
    PayloadError,
    QueueUnknown,
    ResultTimeout,
    TaskFailed,
    UsageError,
)
from fairlane.topics.names import QueueNames

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def names(kafka: str) -> Iterator[QueueNames]:
    with live_queue(kafka) as names:
        yield names


@pytest.fixture
def url(kafka: str, names: QueueNames) -> str:
    return f"kafka://{kafka}/{names.queue}"


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["enqueue", *arguments], input=stdin)


def sent(kafka: str, names: QueueNames, task_id: str, topic: str = "") -> tuple[bytes | None, dict[str, bytes | None]]:
    found = [m for m in records(kafka, topic or names.lane(3)) if headers_of(m)["ce_id"] == task_id.encode()]
    assert len(found) == 1
    return found[0].value(), headers_of(found[0])


def test_a_task_is_enqueued_and_its_id_is_printed(kafka: str, names: QueueNames, url: str) -> None:
    done = run("--queue-url", url, "--type", "email", "--payload", '{"to": "user@example.com"}')
    assert done.exit_code == 0
    line = done.stdout.rstrip("\n")
    assert line.startswith("Task enqueued: ")
    value, headers = sent(kafka, names, line.removeprefix("Task enqueued: "))
    assert value == b'{"to": "user@example.com"}'
    assert (headers["ce_type"], headers["content-type"]) == (b"email", b"application/json")


def test_every_option_says_something_of_the_task(kafka: str, names: QueueNames, url: str) -> None:
    options = ["--priority", "5", "--key", "ann", "--id", "my-own", "--max-attempts", "2", "--delay", "1m30s"]
    done = run("--queue-url", url, "-t", "email", *options, "--expires", "1h", "--json")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert (said["id"], said["topic"]) == ("my-own", f"{names.queue}.retry-1m")
    _, headers = sent(kafka, names, "my-own", said["topic"])
    assert (headers["fairlane-priority"], headers["fairlane-max-attempts"]) == (b"5", b"2")
    assert headers["fairlane-lane"] == names.lane(5).encode()
    assert int(headers["fairlane-expires-ms"] or 0) - int(headers["fairlane-not-before-ms"] or 0) == 3_600_000 - 90_000


def test_the_payload_comes_from_a_file_or_from_standard_input(
    kafka: str, names: QueueNames, url: str, tmp_path: Path
) -> None:
    (tmp_path / "order.json").write_text('{"number": 1}\n')
    from_file = run("--queue-url", url, "-t", "x", "-p", f"@{tmp_path / 'order.json'}", "--id", "from-file")
    from_stdin = run("--queue-url", url, "-t", "x", "-p", "-", "--id", "from-stdin", stdin="[1, 2]\n")
    raw = run("--queue-url", url, "-t", "x", "-p", "-", "--raw", "--id", "raw", stdin=b"\x00\xff\n")
    assert [done.exit_code for done in (from_file, from_stdin, raw)] == [0, 0, 0]
    assert sent(kafka, names, "from-file")[0] == b'{"number": 1}'
    assert sent(kafka, names, "from-stdin")[0] == b"[1, 2]"
    value, headers = sent(kafka, names, "raw")
    assert (value, headers["content-type"]) == (b"\x00\xff\n", b"application/octet-stream")


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["-p", "{to: ann}"], UsageError, "no JSON.*Quote it"),
        (["-p", "@/no/such/file"], UsageError, "cannot be read"),
        (["--delay", "soon"], UsageError, "--delay 'soon' is no span.*5s, 1h30m"),
        (["--priority", "9"], UsageError, "no lane has priority 9"),
        (["--delay", "500d"], UsageError, "366 days"),
    ],
)
def test_what_cannot_be_a_task_is_a_usage_error_and_nothing_is_sent(
    url: str, arguments: list[str], error: type[UsageError], said: str
) -> None:
    done = run("--queue-url", url, "-t", "x", *arguments)
    assert isinstance(done.exception, error)
    assert done.exception.exit_code == 2
    with pytest.raises(error, match=said):
        raise done.exception
    assert not done.stdout


def test_a_queue_without_topics_and_a_kafka_that_is_away_have_codes_of_their_own(kafka: str, queue: str) -> None:
    unknown = run("--queue-url", f"kafka://{kafka}/{queue}", "-t", "x")
    assert isinstance(unknown.exception, QueueUnknown)
    assert unknown.exception.exit_code == 4
    away = run("--queue-url", "kafka://127.0.0.1:1/shop", "-t", "x", "--timeout", "500ms")
    assert isinstance(away.exception, KafkaUnreachable)
    assert away.exception.exit_code == 3


def test_a_process_ends_with_one_line_and_the_code(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "fairlane"), "enqueue", "--queue-url", "kafka://127.0.0.1:1/shop"]
    done = subprocess.run(
        [*command, "-t", "x", "--timeout", "0.5"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("fairlane: Kafka did not answer at 127.0.0.1:1 within 0.5 s")


def test_waiting_prints_the_status_and_the_result(kafka: str, names: QueueNames, url: str) -> None:
    settler = StandinSettler(kafka, names)

    def settle_when_it_is_there(task_id: str, result: Any) -> None:
        wait_until(lambda: task_id in str([headers_of(m)["ce_id"] for m in records(kafka, names.lane(3))]), "sent")
        settler.settle(ended(task_id, "failed", "fatal") if result is ended else completed(task_id, result))

    def run_and_settle(task_id: str, result: Any, *arguments: str) -> Result:
        settling = threading.Thread(target=settle_when_it_is_there, args=(task_id, result))
        settling.start()
        done = run("--queue-url", url, "-t", "x", "--id", task_id, *arguments)
        settling.join(60)
        return done

    text = run_and_settle("w-1", "Email sent successfully", "--wait")
    assert text.stdout == "Task enqueued: w-1\nStatus: completed\nResult: Email sent successfully\n"
    data = run_and_settle("w-2", {"å": 1}, "--wait", "30s")
    assert data.stdout.endswith('Result: {"å": 1}\n')
    machine = run_and_settle("w-3", [1], "--wait", "--json")
    assert json.loads(machine.stdout) | {"partition": 0, "offset": 0} == {
        "id": "w-3",
        "topic": names.lane(3),
        "partition": 0,
        "offset": 0,
        "state": "completed",
        "result": [1],
    }
    failed = run_and_settle("w-4", ended, "--wait")
    assert failed.stdout == "Task enqueued: w-4\nStatus: failed\n"
    assert isinstance(failed.exception, TaskFailed)
    assert failed.exception.exit_code == 1


def test_a_wait_that_is_over_says_that_the_task_goes_on(url: str) -> None:
    done = run("--queue-url", url, "-t", "x", "--wait", "200ms")
    assert isinstance(done.exception, ResultTimeout)
    assert done.exception.exit_code == 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5), ("0.5", 0.5), ("500ms", 0.5), ("1h30m", 5_400), ("2D", 172_800), ("1.5s", 1.5)]
)
def test_spans_of_time_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration_s(text, "--delay") == seconds


@pytest.mark.parametrize("text", ["", "s", "-5s", "5x", "5 s s", "1m,5s"])
def test_a_span_of_time_of_another_form_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="500ms, 5s"):
        parse_duration_s(text, "--delay")


def test_a_payload_error_is_a_usage_error() -> None:
    assert PayloadError("x").exit_code == 2
