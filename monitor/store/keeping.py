"""Forgets what is old, and the oldest where there is too much.

Invariant: one step looks at a bounded number of rows, whatever there is to forget; a step of a store that grows takes
more than it gained, so that it stays within its size. A task that waits is forgotten by size only when nothing that has
ended is left, and else when its record is settled though nothing tells of its end: that is forgotten, here or in Kafka.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from fairlane.monitor.scan import Partition
from fairlane.monitor.store.task_row import TaskRow, Waiting
from fairlane.monitor.store.writer import Tally, row_of
from fairlane.topics.events import State

_LOOKED_AT: Final = 2_000
_EVER_MS: Final = 2**63 - 1
_VACUUMED_PAGES: Final = 2_000
_ROOM: Final = 0.95
"""Of the size, above which the oldest go: SQLite needs free pages to write the next ones."""

# What ended well is what is asked about least.
_ENDED: Final[tuple[State, ...]] = ("completed", "cancelled", "expired", "failed")
_WAITING: Final[tuple[State, ...]] = ("retrying", "pending")


@dataclass(frozen=True)
class Keep:
    """How much is kept.

    Attributes:
        keep_s: how long after its end a task is kept, seconds.
        max_bytes: how large the file may become.
    """

    keep_s: float = 7 * 86_400.0
    max_bytes: int = 2 << 30

    def since_ms(self, now_ms: int) -> int:
        """What ended before is forgotten, Unix ms."""
        return max(0, now_ms - round(self.keep_s * 1_000))


class Keeper:
    """Keeps one store within its bounds, a step at a time.

    Args:
        database: its writer.
        keep: the bounds.
    """

    def __init__(self, database: sqlite3.Connection, keep: Keep) -> None:
        self._database = database
        self._keep = keep
        self._hand: dict[str, tuple[int, int]] = {}
        """Up to where rows of each state were looked at."""
        self._page_bytes: int = database.execute("PRAGMA page_size").fetchone()[0]

    @property
    def used_bytes(self) -> int:
        """Bytes of pages that hold something."""
        pages, free = self._pages()
        return (pages - free) * self._page_bytes

    def step(self, now_ms: int, watermarks: Mapping[Partition, int], gained: int) -> int:
        """Forget some.

        Args:
            now_ms: Unix ms.
            watermarks: offsets of each partition below which all is settled, and of which the store has read what
                was told; empty as long as it has not read all that there was.
            gained: rows that were written since the last step.

        Returns:
            How many rows of tasks it forgot.
        """
        old = self._old(self._keep.since_ms(now_ms), watermarks)
        if (share := self._excess()) > 0:
            (rows,) = self._database.execute("SELECT coalesce(sum(n), 0) FROM counts").fetchone()
            old += self._oldest(min(round(rows * share) + 1, 2 * gained + _LOOKED_AT))
        if old:
            self._forget(old, self._keep.since_ms(now_ms))
        self._vacuum()
        return len(old)

    def _excess(self) -> float:
        """Which share of what is used is too much."""
        return 1 - self._keep.max_bytes * _ROOM / max(1, self.used_bytes)

    def _old(self, since_ms: int, watermarks: Mapping[Partition, int]) -> list[tuple[int, TaskRow]]:
        found = [
            (seq, row)
            for state in _ENDED
            for seq, row in self._next(state, since_ms)
            if row.told is None or max(row.told.written_ms, row.told.finished_ms) < since_ms
        ]
        if watermarks:
            found += [
                (seq, row)
                for state in _WAITING
                for seq, row in self._next(state, _EVER_MS)
                if _is_settled(row.waiting, watermarks)
            ]
        return found

    def _next(self, state: State, before_ms: int) -> list[tuple[int, TaskRow]]:
        """Some rows of a state that were enqueued before, from where the last step stopped."""
        at_ms, seq = self._hand.pop(state, (-1, -1))
        rows = self._database.execute(
            "SELECT seq, id, told, waiting, at_ms FROM tasks INDEXED BY tasks_by_state"
            " WHERE state = ? AND (at_ms, seq) > (?, ?) AND at_ms < ? ORDER BY at_ms, seq LIMIT ?",
            (state, at_ms, seq, before_ms, _LOOKED_AT),
        ).fetchall()
        if len(rows) == _LOOKED_AT:
            self._hand[state] = (rows[-1][4], rows[-1][0])
        return [(seq, row_of(task_id, told, waiting)) for seq, task_id, told, waiting, _ in rows]

    def _oldest(self, most: int) -> list[tuple[int, TaskRow]]:
        for state in (*_ENDED, *_WAITING):
            rows = self._database.execute(
                "SELECT seq, id, told, waiting FROM tasks INDEXED BY tasks_by_state WHERE state = ?"
                " ORDER BY at_ms LIMIT ?",
                (state, most),
            ).fetchall()
            if rows:
                return [(seq, row_of(task_id, told, waiting)) for seq, task_id, told, waiting in rows]
        return []

    def _forget(self, old: Sequence[tuple[int, TaskRow]], since_ms: int) -> None:
        database = self._database
        tally = Tally()
        for row in dict(old).values():
            tally.add(row.summary, -1)
        ids = msgspec.json.encode([row.id for _, row in old]).decode()
        database.execute("BEGIN IMMEDIATE")
        try:
            database.executemany("DELETE FROM tasks WHERE seq = ?", [(seq,) for seq, _ in old])
            database.executemany("DELETE FROM errors WHERE seq = ?", [(seq,) for seq, _ in old])
            database.execute("DELETE FROM attempts WHERE task_id IN (SELECT value FROM json_each(?))", (ids,))
            # What ended in a minute is remembered when its tasks are not, as long as tasks are by time.
            database.execute("DELETE FROM minutes WHERE minute_ms < ?", (since_ms,))
            tally.write(database)
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise

    def _vacuum(self) -> None:
        """Give free pages back, as long as there are many."""
        pages, free = self._pages()
        if free > max(_VACUUMED_PAGES, pages // 8):
            self._database.execute(f"PRAGMA incremental_vacuum({_VACUUMED_PAGES})").fetchall()

    def _pages(self) -> tuple[int, int]:
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        (free,) = self._database.execute("PRAGMA freelist_count").fetchone()
        return pages, free


def _is_settled(waiting: Waiting | None, watermarks: Mapping[Partition, int]) -> bool:
    return waiting is None or waiting.offset < watermarks.get((waiting.topic, waiting.partition), 0)
