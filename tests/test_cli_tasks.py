"""`fairlane tasks` and `fairlane monitor` as a user types them, asking a monitor or Kafka itself."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from served_queue import BAD, OPERATOR, VIEWER, ServedQueue, fill, listening, served_queue
from typer.testing import CliRunner, Result
from written_queue import WrittenQueue, now_ms

from fairlane.cli.main import app
from fairlane.cli.tasks_view import _COLUMNS
from fairlane.monitor.errors import MonitorRefused, MonitorUnreachable
from fairlane.monitor.own_store import OwnStore
from fairlane.monitor.remote import RemoteMonitor
from fairlane.monitor.section import Section, line
from fairlane.monitor.show import visible
from fairlane.monitor.store.queries import TaskQuestion
from fairlane.monitor.store.task_item import TaskItem
from fairlane.topics.errors import UsageError
from fairlane.topics.events import ErrorInfo, StatusEvent

HOSTILE = "完了\x1b]0;owned\x07\x1b[2J\u202e\n[red]"


@pytest.fixture(scope="module")
def served(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedQueue]:
    written = WrittenQueue(kafka, f"t-tasks-{now_ms()}")
    try:
        fill(written)
        odd = written.task("odd", type=HOSTILE)
        written.enqueue(odd)
        error = ErrorInfo("OSError", HOSTILE)
        written.say(StatusEvent("odd", HOSTILE, "retrying", written.names.lane(3), 1, 5, now_ms(), error=error))
        with served_queue(written, tmp_path_factory.mktemp("tasks")) as served:
            yield served
    finally:
        written.delete()


@pytest.fixture(scope="module")
def url(served: ServedQueue) -> Iterator[str]:
    with listening(served) as url:
        yield url


@pytest.fixture(params=["kafka", "monitor"])
def where(request: pytest.FixtureRequest, served: ServedQueue, url: str) -> dict[str, str]:
    written = served.written
    kafka = {"FAIRLANE_QUEUE_URL": f"kafka://{written.connection.bootstrap}/{written.names.queue}"}
    return kafka if request.param == "kafka" else {"FAIRLANE_MONITOR_URL": url, "FAIRLANE_MONITOR_TOKEN": VIEWER}


def run(where: dict[str, str], *words: str) -> Result:
    return CliRunner().invoke(app, words, env=where)


def said(result: Result) -> str:
    assert result.exit_code == 0, (result.output, result.exception)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", result.stdout)
    return result.stdout


@pytest.mark.kafka
def test_tasks_are_found_by_what_is_known_of_them_with_a_monitor_and_without(
    served: ServedQueue, where: dict[str, str]
) -> None:
    every = json.loads(said(run(where, "tasks", "list", "--json")))
    told = served.client(VIEWER).get("/api/v1/tasks").json()
    assert sorted(every["tasks"], key=lambda task: task["id"]) == sorted(told["tasks"], key=lambda task: task["id"])
    for words, found in (
        (("--state", "running"), {"runs"}),
        (("--lane", "5", "--type", "report", "--key", "customer-7"), {"waits"}),
        (("--error", "CUSTOM csv", "--state", "failed", "--since", "1h"), {"dead"}),
        (("--id", "done"), {"done"}),
        (("--until", "2001-01-01T00:00:00Z"), set()),
    ):
        page = json.loads(said(run(where, "tasks", "list", *words, "--json")))
        assert {task["id"] for task in page["tasks"]} == found, words
    assert said(run(where, "tasks", "list", "--id", "nobody")) == "No task fits.\n"


@pytest.mark.kafka
def test_a_table_of_tasks_is_text_and_says_how_to_see_more(where: dict[str, str]) -> None:
    text = said(run(where, "tasks", "list", "--limit", "2"))
    assert text.split("\n")[0].split()[:4] == ["State", "Type", "Task", "Error"]
    assert "2 tasks. There are more: " in text
    odd = said(run(where, "tasks", "list", "--id", "odd"))
    assert r"\x1b[2J" in odd
    assert "[red]" in odd


@pytest.mark.kafka
def test_the_pages_of_a_monitor_follow_each_other_and_without_one_there_are_none(served: ServedQueue, url: str) -> None:
    env = {"FAIRLANE_MONITOR_URL": url, "FAIRLANE_MONITOR_TOKEN": VIEWER}
    seen: list[str] = []
    cursor = ""
    while True:
        page = json.loads(said(run(env, "tasks", "list", "--limit", "4", "--cursor", cursor, "--json")))
        seen += [task["id"] for task in page["tasks"]]
        if not (cursor := page["next"]):
            break
    assert sorted(seen) == sorted({"waits", "again", "done", "runs", "dead", "odd"})
    kafka = f"kafka://{served.written.connection.bootstrap}/{served.written.names.queue}"
    refused = run({}, "tasks", "list", "--cursor", "x", "--queue-url", kafka)
    assert isinstance(refused.exception, UsageError)


@pytest.mark.kafka
def test_what_is_watched_is_a_line_a_task(where: dict[str, str]) -> None:
    lines = said(run(where, "tasks", "watch", "--last", "3", "--count", "3", "--json")).splitlines()
    assert len({json.loads(text)["id"] for text in lines}) == 3
    odd = said(run(where, "tasks", "watch", "--id", "odd", "--count", "1")).splitlines()
    assert len(odd) == 1
    assert r"\x1b[2J" in odd[0]


@pytest.mark.kafka
@pytest.mark.parametrize("by", ["kafka", "monitor"])
def test_a_change_is_told_if_it_fits(kafka: str, queue: str, by: str, tmp_path: Any) -> None:
    written = WrittenQueue(kafka, queue)
    lane = written.names.lane(3)
    asked = TaskQuestion(state="failed", error="csv")
    try:
        written.enqueue(written.task("a"))
        with served_queue(written, tmp_path) as served, listening(served) as url:
            store = OwnStore(written.connection, written.names)
            monitor = RemoteMonitor(url, VIEWER)
            with store, (store if by == "kafka" else monitor).watching(asked) as changes:
                store.fill()
                written.say(StatusEvent("b", "email", "completed", lane))
                written.say(StatusEvent("a", "email", "failed", lane, 2, error=BAD))
                if by == "monitor":
                    served.refresh()
                item = next(changes)
            assert (item.id, item.state, item.attempt, item.error_type) == ("a", "failed", 2, "ValueError")
    finally:
        written.delete()


@pytest.mark.kafka
def test_the_numbers_of_the_terminal_are_those_of_the_http_api(served: ServedQueue, where: dict[str, str]) -> None:
    shown = json.loads(said(run(where, "monitor", "--json")))
    told = served.client(VIEWER).get("/api/v1/stats").json()["stats"]
    assert shown.keys() == told.keys()
    for name in ("queue_length", "running_tasks", "delayed_tasks", "dead_letters", "completed_tasks", "lag", "slots"):
        assert shown[name] == told[name], name
    for name in ("lanes", "tiers"):
        assert [topic["length"] for topic in shown[name]] == [topic["length"] for topic in told[name]]
    assert said(run(where, "monitor")).startswith(f"Queue Length: {told['queue_length']}\n")


@pytest.mark.kafka
def test_a_monitor_that_cannot_answer_is_said_with_what_to_do(served: ServedQueue, url: str) -> None:
    refused = run({"FAIRLANE_MONITOR_URL": url}, "tasks", "list").exception
    assert isinstance(refused, MonitorRefused)
    assert "FAIRLANE_MONITOR_TOKEN" in str(refused)
    token = {"FAIRLANE_MONITOR_TOKEN": OPERATOR}
    away = run({**token, "FAIRLANE_MONITOR_URL": "http://127.0.0.1:1"}, "tasks", "list").exception
    assert isinstance(away, MonitorUnreachable)
    assert away.exit_code == 3
    other = run({**token, "FAIRLANE_MONITOR_URL": url}, "monitor", "--queue", "other").exception
    assert isinstance(other, UsageError)
    for bad in ("127.0.0.1:8090", "ftp://a", "http://user@host", "http://a b", "http://[::1"):
        with pytest.raises((UsageError, ValueError)):
            RemoteMonitor(bad)


@pytest.mark.kafka
def test_a_dumb_terminal_of_80_columns_gets_one_plain_table(served: ServedQueue) -> None:
    written = served.written
    ours, theirs = pty.openpty()
    target = f"kafka://{written.connection.bootstrap}/{written.names.queue}"
    env = {**os.environ, "TERM": "dumb", "COLUMNS": "80", "FAIRLANE_QUEUE_URL": target}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fairlane", "monitor"], stdin=theirs, stdout=theirs, env=env, timeout=60, check=True
        )
        assert done.returncode == 0
        text = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0].startswith("Queue Length: ")
    assert any(each.startswith("p3 ") for each in lines)
    assert max(map(cell_len, lines)) <= 80


texts = st.text(max_size=60) | st.sampled_from([HOSTILE, "完了" * 40, "👩‍👩‍👧" * 9, "e\u0301" * 50])
items = st.builds(TaskItem, id=texts, type=texts, state=st.just("failed"), lane=texts, key=texts,
                  at_ms=st.integers(-1, 2**53), error_message=texts, error_type=texts, worker=texts)  # fmt: skip


@given(items, st.integers(80, 220))
def test_no_line_of_a_task_is_wider_than_the_terminal(item: TaskItem, width: int) -> None:
    columns = tuple(column for column, _, _ in _COLUMNS)
    typical = tuple("x" * wide for _, _, wide in _COLUMNS)
    cells = tuple(visible(cell(item, now_ms())) for _, cell, _ in _COLUMNS)
    text = line(cells, columns, Section(columns, (typical,)).fit(width))
    assert cell_len(text) <= width
    assert "x" * 36 in line(("x" * 36,) * len(columns), columns, Section(columns, (typical,)).fit(width))
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", text)
