"""Connections for those who read the store, any number of threads.

Invariant: each is lent to one thread at a time, sees one moment while it is lent, and is interrupted when its
time is up.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Final

from fairlane.monitor.errors import QuestionTooWide
from fairlane.monitor.store.database import reader

_OPCODES: Final = 20_000


class Readers:
    """Lends read-only connections.

    Args:
        path: of the store.
        timeout_s: how long one may be lent before what it asks is given up, seconds.
    """

    def __init__(self, path: Path, *, timeout_s: float = 5.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._free: LifoQueue[sqlite3.Connection] = LifoQueue()

    @contextmanager
    def lent(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction.

        Raises:
            QuestionTooWide: what was asked takes longer than the time.
        """
        try:
            connection = self._free.get_nowait()
        except Empty:
            connection = reader(self._path)
        deadline = time.monotonic() + self._timeout_s
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _OPCODES)
        try:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            if "interrupt" in str(error):
                raise QuestionTooWide(self._timeout_s) from error
            raise
        finally:
            connection.set_progress_handler(None, 0)
            self._free.put(connection)

    def close(self) -> None:
        """Close those that are not lent."""
        while True:
            try:
                self._free.get_nowait().close()
            except Empty:
                return
