"""The tables of the store.

Invariant: VERSION is another one whenever a table, or what is written into it, is: a file of another version is thrown
away and filled again from Kafka, never migrated.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 4

APPLICATION_ID: Final = 0x6661_6972
"""`fair`, in the header of the file: whatever has another one is not ours, and is never overwritten."""

TABLES: Final = (
    # Where to go on, written in the transaction of what was read before.
    """CREATE TABLE positions(
        topic TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
        PRIMARY KEY(topic, partition)) WITHOUT ROWID""",
    # Kafka's ids of the topics: one that was deleted and made again is another topic.
    "CREATE TABLE topics(topic TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID",
    # Registers of task_row.py as MessagePack, beside what rows are looked for by.
    """CREATE TABLE tasks(
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL, type TEXT NOT NULL, lane TEXT NOT NULL, key TEXT, at_ms INTEGER NOT NULL,
        told BLOB, waiting BLOB)""",
    "CREATE INDEX tasks_by_time ON tasks(at_ms)",
    "CREATE INDEX tasks_by_state ON tasks(state, at_ms)",
    "CREATE INDEX tasks_by_type ON tasks(type, at_ms)",
    "CREATE INDEX tasks_by_key ON tasks(key, at_ms) WHERE key IS NOT NULL",
    # How many rows of tasks there are of each kind.
    """CREATE TABLE counts(
        state TEXT NOT NULL, type TEXT NOT NULL, lane TEXT NOT NULL, n INTEGER NOT NULL,
        PRIMARY KEY(state, type, lane)) WITHOUT ROWID""",
    # Ends of tasks by the minute in which they ended; times in ms, added up.
    """CREATE TABLE minutes(
        minute_ms INTEGER NOT NULL, type TEXT NOT NULL, lane TEXT NOT NULL, state TEXT NOT NULL,
        n INTEGER NOT NULL, took_ms INTEGER NOT NULL, waited_ms INTEGER NOT NULL,
        PRIMARY KEY(minute_ms, type, lane, state)) WITHOUT ROWID""",
    # Events beyond the first attempt that completed: what a task's timeline is made of. Compaction may have taken some.
    """CREATE TABLE attempts(
        task_id TEXT NOT NULL, told_offset INTEGER NOT NULL, told BLOB NOT NULL,
        PRIMARY KEY(task_id, told_offset)) WITHOUT ROWID""",
    # The last error of each task that has one, by the seq of the task and in the order of tasks, and the words in it.
    """CREATE TABLE errors(
        seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, type TEXT NOT NULL, message TEXT NOT NULL)""",
    "CREATE INDEX errors_by_time ON errors(at_ms)",
    """CREATE TRIGGER tasks_moved AFTER UPDATE OF at_ms ON tasks WHEN new.at_ms <> old.at_ms BEGIN
        UPDATE errors SET at_ms = new.at_ms WHERE seq = new.seq; END""",
    "CREATE VIRTUAL TABLE error_words USING fts5(type, message, content='errors', content_rowid='seq', detail='none')",
    """CREATE TRIGGER errors_added AFTER INSERT ON errors BEGIN
        INSERT INTO error_words(rowid, type, message) VALUES (new.seq, new.type, new.message); END""",
    """CREATE TRIGGER errors_gone AFTER DELETE ON errors BEGIN
        INSERT INTO error_words(error_words, rowid, type, message) VALUES ('delete', old.seq, old.type, old.message);
        END""",
    """CREATE TABLE letters(
        partition INTEGER NOT NULL, at INTEGER NOT NULL, task_id TEXT NOT NULL, type TEXT NOT NULL,
        lane TEXT NOT NULL, reason TEXT NOT NULL, error_type TEXT NOT NULL, error_message TEXT NOT NULL,
        attempt INTEGER NOT NULL, replays INTEGER NOT NULL, enqueued_ms INTEGER NOT NULL, died_ms INTEGER NOT NULL,
        trace_id TEXT NOT NULL, group_id TEXT NOT NULL, PRIMARY KEY(partition, at)) WITHOUT ROWID""",
    "CREATE INDEX letters_by_time ON letters(died_ms)",
    "CREATE INDEX letters_by_task ON letters(task_id)",
    "CREATE INDEX letters_by_group ON letters(group_id, died_ms, replays)",
    """CREATE TABLE audit(
        partition INTEGER NOT NULL, at INTEGER NOT NULL, at_ms INTEGER NOT NULL, who TEXT NOT NULL,
        action TEXT NOT NULL, letter TEXT NOT NULL, task_id TEXT NOT NULL, record BLOB NOT NULL,
        PRIMARY KEY(partition, at)) WITHOUT ROWID""",
    "CREATE INDEX audit_by_letter ON audit(letter)",
    "CREATE INDEX audit_by_task ON audit(task_id)",
    "CREATE TABLE workers(worker TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, beat BLOB NOT NULL) WITHOUT ROWID",
)
