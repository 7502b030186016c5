"""Tasks are found by words of their errors: as a look at every row finds them, in their order, and without sorting."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fairlane.monitor.store import queries
from fairlane.monitor.store.batch import Batch
from fairlane.monitor.store.database import Database
from fairlane.monitor.store.queries import TaskQuestion
from fairlane.monitor.store.task_row import Told, Waiting
from fairlane.monitor.store.writer import write
from fairlane.topics.names import QueueNames

NAMES = QueueNames("search")
LANE = NAMES.lane(3)
MESSAGES = ("customers.csv: no CSV", "the bank hung up", "csv of the bank", "", "")


def told(chance: random.Random, number: int) -> Told:
    at, message = chance.randrange(1, 90), chance.choice(MESSAGES)
    return Told(
        number, at, 0, "failed" if message else "completed", chance.choice(("email", "report")), LANE, 1, 3, at, at, at,
        0, "w", LANE, 0, number, "", "", "ValueError" if message else "", message,
    )  # fmt: skip


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[Database, dict[str, Told]]]:
    """Three hundred tasks, some of which failed with another error later, or were enqueued earlier than was thought."""
    database, chance, tasks = Database(tmp_path / "store.db", "search"), random.Random(5), dict[str, Told]()
    for _ in range(3):
        batch = Batch(NAMES, {})
        for _ in range(150):
            task_id = f"t{chance.randrange(300)}"
            before = tasks.get(task_id)
            now = told(chance, 1 + (before.offset if before else 0))
            tasks[task_id] = now
            batch._tell(task_id, now)
            if chance.random() < 0.2:
                batch._waiting[task_id] = Waiting(0, 1, 1, LANE, 0, now.at, now.type, LANE, "key", 3, 1, 0, 0, 0, "")
        write(database.writer, batch)
    yield database, tasks
    database.close()


def found(database: Database, asked: TaskQuestion) -> list[str]:
    """All pages, of seven tasks each."""
    ids: list[str] = []
    cursor = ""
    while True:
        page = queries.tasks(database.writer, asked, limit=7, cursor=cursor)
        ids += [row.id for row in page.rows]
        if not (cursor := page.next):
            return ids


@pytest.mark.parametrize("words", ["csv", "bank CSV", "ban", "ValueError", "zebra"])
@pytest.mark.parametrize("more", [{}, {"type": "report"}, {"since_ms": 30, "until_ms": 60}, {"state": "completed"}])
def test_words_find_what_a_look_at_every_row_finds_in_the_same_order(
    filled: tuple[Database, dict[str, Told]], words: str, more: dict[str, object]
) -> None:
    database, tasks = filled
    everything = found(database, replace(TaskQuestion(), **more))
    texts = {task_id: f"{each.error_type} {each.error_message}".lower() for task_id, each in tasks.items()}
    fit = {
        task_id for task_id, text in texts.items() if all(f" {word}" in f" {text}" for word in words.lower().split())
    }
    ids = found(database, replace(TaskQuestion(error=words), **more))
    assert ids == [each for each in everything if each in fit]
    some = sorted(fit)[:3]
    page = queries.tasks(database.writer, TaskQuestion(error=words), limit=7, among=[*some, "t-none"])
    assert sorted(row.id for row in page.rows) == some


def test_a_page_of_a_common_word_is_not_made_by_putting_all_that_fit_in_order(
    filled: tuple[Database, dict[str, Told]],
) -> None:
    asked: list[str] = []
    connection = filled[0].writer
    connection.set_trace_callback(asked.append)
    queries.tasks(connection, TaskQuestion(error="csv", type="email", state="failed", since_ms=1), limit=50)
    connection.set_trace_callback(None)
    plan = [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {asked[0]}")]
    assert any("errors_by_time" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan
