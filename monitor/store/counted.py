"""How much the store holds.

Invariant: counts by state are kept, never counted, so that asking costs no more with more tasks.
"""

from __future__ import annotations

import sqlite3

import msgspec


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a store: tasks in all and by state, letters, records of the audit, workers, tasks with an error."""

    tasks: int
    states: dict[str, int]
    letters: int
    audit: int
    workers: int
    errors: int

    def to_json(self) -> bytes:
        """As JSON, by the names of the fields."""
        return msgspec.json.encode(self)


def counted(database: sqlite3.Connection) -> Counted:
    """What is in a store now; the connection is in a transaction where others write it."""
    states = dict(database.execute("SELECT state, sum(n) FROM counts GROUP BY state ORDER BY state").fetchall())
    letters, audit, workers, errors = (
        database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - of the four names here
        for table in ("letters", "audit", "workers", "errors")
    )
    return Counted(
        tasks=sum(states.values()), states=states, letters=letters, audit=audit, workers=workers, errors=errors
    )
