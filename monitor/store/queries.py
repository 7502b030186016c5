"""Questions to the store: pages of tasks, one task, who did what, counts over time.

Invariant: a page costs what is on it and what a filter without an index passes over, never what comes before it: where
it begins is a key, not a number of rows. Pages are the newest first, and stable while tasks move on.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fairlane.monitor.store.cursors import cursor_of, read_cursor
from fairlane.monitor.store.task_item import AttemptItem, attempt_of
from fairlane.monitor.store.task_row import TaskRow
from fairlane.monitor.store.writer import row_of, told_of
from fairlane.topics.audit import AuditRecord, decode_audit
from fairlane.topics.events import State

_WORD: Final = re.compile(r"[^\W_]+")
_NO_WORD: Final = '"\x01"'


# Those with an error in their order, each looked up among those that the words are in: as soon as a page is full it is
# done, where putting all that fit in order would take seconds with 50,000 of them. SQLite would choose that.
_WITH_ERROR: Final = "errors INDEXED BY errors_by_time CROSS JOIN tasks ON tasks.seq = errors.seq"
_HAS_WORDS: Final = "+{by}.seq IN (SELECT rowid FROM error_words WHERE error_words MATCH ?)"


class TaskQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks: those that fit all that is said.

    Attributes:
        error: words that its last error has, each whole or its beginning.
        since_ms: enqueued then or later, Unix ms.
        until_ms: enqueued before, Unix ms.
    """

    id: str = ""
    state: State | None = None
    type: str = ""
    lane: str = ""
    key: str = ""
    error: str = ""
    since_ms: int = 0
    until_ms: int = 0


class Page(msgspec.Struct, frozen=True):
    """Rows, and the cursor of the next page; "" if this is the last."""

    rows: tuple[TaskRow, ...]
    next: str = ""


class MinuteItem(msgspec.Struct, frozen=True, kw_only=True):
    """What ended in one minute: how many, and how long they took and had waited on average, ms."""

    minute_ms: int
    type: str
    lane: str
    state: State
    n: int
    took_ms: float
    waited_ms: float


def tasks(
    database: sqlite3.Connection,
    asked: TaskQuestion,
    *,
    limit: int,
    cursor: str = "",
    among: Sequence[str] | None = None,
) -> Page:
    """A page of tasks, or of those whose ids are in `among`.

    Raises:
        CursorInvalid: the cursor is none.
    """
    # Tasks that are named are found by their names.
    by, source = ("errors", _WITH_ERROR) if asked.error and among is None and not asked.id else ("tasks", "tasks")
    wheres, values = [], list[Any]()
    if asked.error:
        wheres.append(_HAS_WORDS.format(by=by))
        values.append(matching(asked.error))
    for column in ("id", "state", "type", "lane", "key"):
        if value := getattr(asked, column):
            wheres.append(f"tasks.{column} = ?")
            values.append(value)
    if among is not None:
        wheres.append("tasks.id IN (SELECT value FROM json_each(?))")
        values.append(msgspec.json.encode(list(among)).decode())
    if asked.since_ms:
        wheres.append(f"{by}.at_ms >= ?")
        values.append(asked.since_ms)
    if asked.until_ms:
        wheres.append(f"{by}.at_ms < ?")
        values.append(asked.until_ms)
    if cursor:
        wheres.append(f"({by}.at_ms, {by}.seq) < (?, ?)")
        values += read_cursor(cursor, 2)
    where = f"WHERE {' AND '.join(wheres)}" if wheres else ""
    found = database.execute(
        f"SELECT tasks.id, told, waiting, {by}.at_ms, {by}.seq FROM {source} {where}"
        f" ORDER BY {by}.at_ms DESC, {by}.seq DESC LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    rows = tuple(row_of(*columns[:3]) for columns in found[:limit])
    return Page(rows, cursor_of(*found[limit - 1][3:]) if len(found) > limit else "")


def tasks_of(database: sqlite3.Connection, ids: Sequence[str]) -> tuple[TaskRow, ...]:
    """The rows of these tasks, those that there are."""
    found = database.execute(
        "SELECT id, told, waiting FROM tasks WHERE id IN (SELECT value FROM json_each(?))",
        (msgspec.json.encode(list(ids)).decode(),),
    )
    return tuple(row_of(*columns) for columns in found)


def attempts(database: sqlite3.Connection, task_id: str) -> tuple[AttemptItem, ...]:
    """What was told of a task, in order; events that Kafka had compacted away before they were read are not there."""
    found = database.execute("SELECT told FROM attempts WHERE task_id = ? ORDER BY told_offset", (task_id,))
    return tuple(attempt_of(told_of(told)) for (told,) in found)


def audit(
    database: sqlite3.Connection, *, limit: int, cursor: str = "", task_id: str = "", letter: str = ""
) -> tuple[tuple[AuditRecord, ...], str]:
    """A page of who did what, the newest first, and the cursor of the next one.

    Raises:
        CursorInvalid: the cursor is none.
    """
    wheres, values = ["1"], list[Any]()
    for column, value in (("task_id", task_id), ("letter", letter)):
        if value:
            wheres.append(f"{column} = ?")
            values.append(value)
    if cursor:
        wheres.append("(partition, at) < (?, ?)")
        values += read_cursor(cursor, 2)
    found = database.execute(
        f"SELECT record, partition, at FROM audit WHERE {' AND '.join(wheres)}"
        " ORDER BY partition DESC, at DESC LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    records = tuple(record for value, _, _ in found[:limit] if (record := decode_audit(value)) is not None)
    return records, cursor_of(*found[limit - 1][1:]) if len(found) > limit else ""


def minutes(database: sqlite3.Connection, since_ms: int, until_ms: int) -> tuple[MinuteItem, ...]:
    """What ended between two times, by minute, type, lane and state."""
    found = database.execute(
        "SELECT minute_ms, type, lane, state, n, took_ms, waited_ms FROM minutes"
        " WHERE minute_ms >= ? AND minute_ms < ? AND n > 0 ORDER BY minute_ms LIMIT 100000",
        (since_ms, until_ms),
    )
    return tuple(
        MinuteItem(
            minute_ms=minute_ms, type=of, lane=lane, state=state, n=n, took_ms=took_ms / n, waited_ms=waited_ms / n
        )
        for minute_ms, of, lane, state, n, took_ms, waited_ms in found
    )


def matching(text: str) -> str:
    """An FTS5 query for all words of a text, each whole or its beginning; one that nothing fits if it has none."""
    return " AND ".join(f'"{word}"*' for word in _WORD.findall(text)) or _NO_WORD
