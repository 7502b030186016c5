"""The file of the store: who may write it, and whether what is in it can be gone on from.

Invariant: one process writes a file at a time, with one connection; readers see whole transactions only. A file of
another version is made anew; a file that is not ours is refused.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import struct
from pathlib import Path
from typing import Final

from fairlane.monitor.store.schema import APPLICATION_ID, TABLES, VERSION
from fairlane.topics.errors import UsageError

_HEADER: Final = b"SQLite format 3\x00"
_APPLICATION_ID_AT: Final = 68
_WAIT_S: Final = 30.0
_CACHE_KIB: Final = 65_536
_MMAP_BYTES: Final = 1 << 30
_WAL_BYTES: Final = 64 << 20


class Database:
    """The only writer of one store.

    Args:
        path: of the file; made if it is not there, with its folder.
        queue: whose store it is.

    Raises:
        UsageError: the file is no store, or another queue's, or another process has it.
    """

    def __init__(self, path: Path, queue: str) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path)
        try:
            _refuse_foreign(path)
            self.writer = self._open(queue)
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, queue: str) -> sqlite3.Connection:
        writer = _connect(self.path)
        if writer.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            writer.close()
            for name in (self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm"))):
                name.unlink(missing_ok=True)
            writer = _connect(self.path)
            with writer:
                writer.execute("BEGIN")
                self._create(writer, queue)
            return writer
        (named,) = writer.execute("SELECT id FROM topics WHERE topic = ''").fetchone()
        if named != queue:
            writer.close()
            raise UsageError(f"{self.path} is the store of queue {named!r}", f"Name another file for {queue!r}")
        return writer

    @staticmethod
    def _create(writer: sqlite3.Connection, queue: str) -> None:
        for table in TABLES:
            writer.execute(table)
        # A topic has a name, so the empty one is free for the queue's.
        writer.execute("INSERT INTO topics VALUES ('', ?)", (queue,))
        writer.execute(f"PRAGMA user_version = {VERSION}")

    def empty(self) -> None:
        """Forget everything, in one transaction: readers go on reading the same file."""
        (queue,) = self.writer.execute("SELECT id FROM topics WHERE topic = ''").fetchone()
        with self.writer:
            self.writer.execute("BEGIN IMMEDIATE")
            ours = self.writer.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'error_words_*'"
            ).fetchall()
            for (name,) in ours:
                self.writer.execute(f'DROP TABLE "{name}"')
            self._create(self.writer, queue)

    def close(self) -> None:
        """Close the file and let others have it."""
        self.writer.close()
        os.close(self._lock)


def reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read; for one thread at a time."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = 1")
    # SQLite's own `lower` knows ASCII only.
    connection.create_function("casefold", 1, str.casefold, deterministic=True)
    connection.execute(f"PRAGMA mmap_size = {_MMAP_BYTES}")
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        # Before there is a log, so that the file itself says whose it is, whenever its process dies. And before the
        # first table: pages that are free can then be given back a few at a time.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for pragma in (
        "journal_mode = WAL",
        # What a power cut takes from the end of the log is read from Kafka again; the file stays whole.
        "synchronous = NORMAL",
        f"journal_size_limit = {_WAL_BYTES}",
        "wal_autocheckpoint = 4000",
        f"cache_size = -{_CACHE_KIB}",
        "temp_store = MEMORY",
        # Some builds overwrite what is deleted with zeros, which costs as much as writing it.
        "secure_delete = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _locked(path: Path) -> int:
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise UsageError(
            f"another process has the store {path}", "Each monitor has a file of its own: name another one"
        ) from error
    return lock


def _refuse_foreign(path: Path) -> None:
    """Only an empty file and one of ours may be written over."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        head = file.read(_APPLICATION_ID_AT + 4)
    is_ours = head.startswith(_HEADER) and len(head) == _APPLICATION_ID_AT + 4
    if not is_ours or struct.unpack_from(">I", head, _APPLICATION_ID_AT)[0] != APPLICATION_ID:
        raise UsageError(f"{path} is no store of fairlane's", "Name another file; this one is left as it is")
