"""Pages of tasks as they are shown: rows of the store, and beside them what heartbeats say that runs now.

Invariant: a filter means the same wherever it is asked, since this is the one place that asks the store by it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from fairlane.monitor.stats import RunningStats
from fairlane.monitor.store import queries
from fairlane.monitor.store.queries import TaskQuestion
from fairlane.monitor.store.task_item import TaskItem, item_of


class TaskPage(msgspec.Struct, frozen=True):
    """Tasks, those that were enqueued last first; `next` is the cursor of the next page, or ""."""

    tasks: tuple[TaskItem, ...]
    next: str = ""


def page_of(
    database: sqlite3.Connection,
    asked: TaskQuestion,
    running: Mapping[str, RunningStats],
    *,
    limit: int,
    cursor: str = "",
    among: Sequence[str] | None = None,
) -> TaskPage:
    """A page of the tasks that fit, or of those of them whose ids are in `among`.

    Args:
        database: the store.
        asked: which tasks.
        running: what runs now, by task.
        limit: at most how many.
        cursor: of the page before, or "".
        among: ids; None is all.

    Raises:
        CursorInvalid: the cursor is none.
    """
    told = asked
    if asked.state == "running":
        told = replace(asked, state=None)
        among = [each for each in (running if among is None else among) if each in running]
    page = queries.tasks(database, told, limit=limit, cursor=cursor, among=among)
    items = (item_of(row, running.get(row.id)) for row in page.rows)
    # What the store has as waiting runs already: heartbeats say so, which come before the next event.
    return TaskPage(tuple(item for item in items if asked.state in (None, item.state)), page.next)
