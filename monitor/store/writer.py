"""Writes a batch: rows, what is counted of them, and the positions after it, in one transaction.

Invariant: whatever is read twice changes nothing the second time. Counts and minutes follow from the rows: each row
that is written takes away what it counted for before, and adds what it counts for now.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec

from fairlane.monitor.letter import Letter
from fairlane.monitor.letter_groups import group_of
from fairlane.monitor.store.batch import Batch
from fairlane.monitor.store.facts import MAX_TEXT
from fairlane.monitor.store.task_row import Summary, TaskRow, Told, Waiting, merge
from fairlane.topics.audit import CANCEL, AuditRecord

MINUTE_MS: Final = 60_000

_MAX_INTEGER: Final = 2**63 - 1
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_told: Final = msgspec.msgpack.Decoder(Told).decode
_decode_waiting: Final = msgspec.msgpack.Decoder(Waiting).decode

_INSERT: Final = "INSERT INTO tasks(id, state, type, lane, key, at_ms, told, waiting) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE: Final = (
    "UPDATE tasks SET state = ?, type = ?, lane = ?, key = ?, at_ms = ?, told = ?, waiting = ? WHERE seq = ?"
)

Minute = tuple[int, str, str, str]
"""A minute (Unix ms), a type, a lane and a state."""


def row_of(task_id: str, told: bytes | None, waiting: bytes | None) -> TaskRow:
    """The row that the columns of a task are."""
    return TaskRow(
        task_id,
        None if told is None else _decode_told(told),
        None if waiting is None else _decode_waiting(waiting),
    )


def told_of(data: bytes) -> Told:
    """What an attempt's column tells."""
    return _decode_told(data)


class Tally:
    """What rows that come, change and go make of the counts and minutes; written at the end of a transaction."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._minutes: defaultdict[Minute, list[int]] = defaultdict(lambda: [0, 0, 0])

    def add(self, summary: Summary, sign: int = 1) -> None:
        """Count a row; with -1, take it away."""
        self._counts[summary.state, summary.type, summary.lane] += sign

    def end(self, told: Told | None, sign: int = 1) -> None:
        """Count the end that was told, if one was; with -1, take it away."""
        if told is None or not told.ended:
            return
        minute = self._minutes[_minute(told), told.type, told.lane, told.state]
        minute[0] += sign
        if told.started_ms:
            minute[1] += sign * _span(told.started_ms, told.finished_ms)
            minute[2] += sign * (_span(told.enqueued_ms, told.started_ms) if told.enqueued_ms else 0)

    def write(self, database: sqlite3.Connection) -> None:
        """Add it to the tables."""
        database.executemany(
            "INSERT INTO counts VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
            [(*kind, n) for kind, n in self._counts.items() if n],
        )
        if any(n < 0 for n in self._counts.values()):
            database.execute("DELETE FROM counts WHERE n <= 0")
        database.executemany(
            "INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " n = n + excluded.n, took_ms = took_ms + excluded.took_ms, waited_ms = waited_ms + excluded.waited_ms",
            [(*minute, *sums) for minute, sums in self._minutes.items() if any(sums)],
        )
        if any(n < 0 for n, _, _ in self._minutes.values()):
            database.execute("DELETE FROM minutes WHERE n <= 0")


def _minute(told: Told) -> int:
    at_ms = min(told.finished_ms or told.written_ms, told.written_ms)
    return at_ms - at_ms % MINUTE_MS


def _span(since_ms: int, until_ms: int) -> int:
    # Anybody may write any number into the topics: sums have to stay within 64 bits.
    return min(max(0, until_ms - since_ms), 1 << 40)


def write(database: sqlite3.Connection, batch: Batch) -> int:
    """Write a batch.

    Returns:
        How many rows of tasks it made or changed.
    """
    database.execute("BEGIN IMMEDIATE")
    try:
        changed = _write_tasks(database, batch.rows)
        _write_attempts(database, batch)
        _write_letters(database, batch.letters)
        _write_audit(database, batch)
        _write_beats(database, batch)
        database.executemany(
            "INSERT INTO positions VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
            [(*partition, offset) for partition, offset in batch.positions.items()],
        )
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise
    return changed


def _write_tasks(database: sqlite3.Connection, rows: Iterable[TaskRow]) -> int:
    fresh = {row.id: row for row in rows}
    if not fresh:
        return 0
    tally = Tally()
    updated: list[tuple[object, ...]] = []
    errors: list[tuple[str, str, str]] = []
    mended: list[tuple[int]] = []
    known = database.execute(
        "SELECT id, seq, told, waiting FROM tasks WHERE id IN (SELECT value FROM json_each(?))",
        (msgspec.json.encode(list(fresh)).decode(),),
    ).fetchall()
    for task_id, seq, told, waiting in known:
        before = row_of(task_id, told, waiting)
        after = merge(before, fresh.pop(task_id))
        if after == before:
            continue
        was, now = before.summary, after.summary
        if was != now:
            tally.add(was, -1)
            tally.add(now)
        if after.told != before.told:
            tally.end(before.told, -1)
            tally.end(after.told)
            _note_error(after, before, errors)
            if before.error not in (None, after.error):
                mended.append((seq,))
        updated.append((*_columns(after, now), seq))
    inserted = []
    for row in fresh.values():
        now = row.summary
        tally.add(now)
        tally.end(row.told)
        _note_error(row, None, errors)
        inserted.append((row.id, *_columns(row, now)))
    database.executemany(_UPDATE, updated)
    database.executemany(_INSERT, inserted)
    database.executemany("DELETE FROM errors WHERE seq = ?", mended)
    database.executemany("INSERT INTO errors SELECT seq, at_ms, ?, ? FROM tasks WHERE id = ?", errors)
    tally.write(database)
    return len(updated) + len(inserted)


def _columns(row: TaskRow, now: Summary) -> tuple[object, ...]:
    told = None if row.told is None else _encode(row.told)
    waiting = None if row.waiting is None else _encode(row.waiting)
    return (now.state, now.type, now.lane, now.key or None, now.at_ms, told, waiting)


def _note_error(after: TaskRow, before: TaskRow | None, errors: list[tuple[str, str, str]]) -> None:
    now = after.error
    if now is not None and now != (before.error if before else None):
        errors.append((now.type, now.message, after.id))


def _write_attempts(database: sqlite3.Connection, batch: Batch) -> None:
    database.executemany(
        "INSERT OR IGNORE INTO attempts VALUES (?, ?, ?)",
        [(task_id, told.offset, _encode(told)) for task_id, told in batch.attempts],
    )


def _write_letters(database: sqlite3.Connection, letters: Iterable[Letter]) -> None:
    database.executemany(
        "INSERT OR IGNORE INTO letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                letter.record.partition,
                letter.record.offset,
                letter.task_id[:MAX_TEXT],
                letter.type[:MAX_TEXT],
                (letter.lane or (letter.original.topic if letter.original else ""))[:MAX_TEXT],
                letter.reason[:MAX_TEXT],
                letter.error_type[:MAX_TEXT],
                letter.error_message[:MAX_TEXT],
                min(letter.attempt, _MAX_INTEGER),
                min(letter.replays, _MAX_INTEGER),
                min(letter.enqueued_ms, _MAX_INTEGER),
                min(letter.died_ms, _MAX_INTEGER),
                letter.trace_id,
                group_of(letter),
            )
            for letter in letters
        ],
    )


def _write_audit(database: sqlite3.Connection, batch: Batch) -> None:
    def columns(record: AuditRecord) -> tuple[object, ...]:
        task_id = record.target if record.action == CANCEL else record.task_id
        return record.at_ms, record.who, record.action, record.letter, task_id

    database.executemany(
        "INSERT OR IGNORE INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(each.partition, each.offset, *columns(each.record), each.value) for each in batch.audit],
    )


def _write_beats(database: sqlite3.Connection, batch: Batch) -> None:
    database.executemany(
        "DELETE FROM workers WHERE worker = ?", [(worker,) for worker, (_, beat) in batch.beats.items() if beat is None]
    )
    database.executemany(
        "INSERT INTO workers VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at_ms = excluded.at_ms, beat = excluded.beat",
        [(worker, at_ms, beat) for worker, (at_ms, beat) in batch.beats.items() if beat is not None],
    )
