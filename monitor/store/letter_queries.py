"""Questions to the store about dead letters: pages of them, and what they died of.

Invariant: what fits here is what fits a `LetterFilter` of the same words, which reads Kafka.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import msgspec

from fairlane.monitor.letter import error_of
from fairlane.monitor.letter_groups import Group, shape_of
from fairlane.monitor.store.cursors import cursor_of, read_cursor
from fairlane.topics.audit import DEALT_WITH

_DEALT: Final = ", ".join(f"'{action}'" for action in sorted(DEALT_WITH))
_NOT_DEALT: Final = (
    "NOT EXISTS (SELECT 1 FROM audit WHERE audit.letter = ? || '/' || letters.partition || '/' || letters.at"
    f" AND action IN ({_DEALT}))"
)
# As `error_of` says it.
_ERROR: Final = "CASE WHEN error_message = '' THEN error_type ELSE error_type || ': ' || error_message END"
_COLUMNS: Final = ("task_id", "type", "reason", "lane", "group_id")


class LetterItem(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter. Its name, `letter`, is `topic/partition/offset`. `dealt` is what was done with it last, or ""."""

    letter: str
    task_id: str
    type: str
    lane: str
    reason: str
    error_type: str
    error_message: str
    attempt: int
    replays: int
    enqueued_ms: int
    died_ms: int
    trace_id: str
    dealt: str = ""


def letters(
    database: sqlite3.Connection,
    dlq: str,
    *,
    limit: int,
    cursor: str = "",
    every: bool = False,
    error: str = "",
    **equal: str,
) -> tuple[tuple[LetterItem, ...], str]:
    """A page of dead letters, and the cursor of the next one.

    Args:
        database: the store.
        dlq: the topic.
        limit: at most how many.
        cursor: of the page before, or "".
        every: also those that were dealt with.
        error: what is in `ErrorType: message`, in capitals or not.
        equal: what columns have to be; "" is anything.

    Raises:
        CursorInvalid: the cursor is none.
    """
    wheres, values = ["1"], list[Any]()
    for column, value in equal.items():
        assert column in _COLUMNS, column
        if value:
            wheres.append(f"letters.{column} = ?")
            values.append(value)
    if error:
        wheres.append(f"instr(casefold({_ERROR}), ?)")
        values.append(error.casefold())
    if not every:
        wheres.append(_NOT_DEALT)
        values.append(dlq)
    if cursor:
        wheres.append("(died_ms, partition, at) < (?, ?, ?)")
        values += read_cursor(cursor, 3)
    found = database.execute(
        "SELECT ? || '/' || partition || '/' || at AS letter, task_id, type, lane, reason, error_type, error_message,"
        " attempt, replays, enqueued_ms, died_ms, trace_id, (SELECT action FROM audit WHERE audit.letter ="
        f" ? || '/' || letters.partition || '/' || letters.at AND action IN ({_DEALT}) ORDER BY audit.at DESC LIMIT 1)"
        f" AS dealt, partition, at FROM letters WHERE {' AND '.join(wheres)}"
        " ORDER BY died_ms DESC, partition DESC, at DESC LIMIT ?",
        (dlq, dlq, *values, limit + 1),
    ).fetchall()
    names = LetterItem.__struct_fields__
    items = tuple(
        LetterItem(**{**dict(zip(names, columns, strict=False)), "dealt": columns[12] or ""})
        for columns in found[:limit]
    )
    last = found[limit - 1] if len(found) > limit else None
    return items, cursor_of(last[10], last[13], last[14]) if last else ""


def groups(database: sqlite3.Connection, dlq: str, *, limit: int) -> tuple[Group, ...]:
    """What letters that nobody has dealt with died of, the largest groups first.

    Args:
        database: the store.
        dlq: the topic.
        limit: at most how many.
    """
    found = database.execute(
        "SELECT group_id, count(*) AS n, min(died_ms), max(died_ms), max(replays) FROM letters"
        f" WHERE {_NOT_DEALT} GROUP BY group_id ORDER BY n DESC, group_id LIMIT ?",
        (dlq, limit),
    ).fetchall()
    return tuple(_group(database, dlq, *columns) for columns in found)


def _group(
    database: sqlite3.Connection, dlq: str, name: str, count: int, oldest_ms: int, newest_ms: int, replays: int
) -> Group:
    partition, at, task_type, reason, error_type, message = database.execute(
        "SELECT partition, at, type, reason, error_type, error_message FROM letters"
        " WHERE group_id = ? ORDER BY died_ms DESC, partition DESC, at DESC LIMIT 1",
        (name,),
    ).fetchone()
    error = error_of(error_type, message)
    return Group(
        id=name, type=task_type, reason=reason, error=shape_of(error), count=count, oldest_ms=oldest_ms,
        newest_ms=newest_ms, newest=f"{dlq}/{partition}/{at}", example=error, replays=replays,
    )  # fmt: skip
