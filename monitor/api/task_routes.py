"""Tasks: pages of them by what they are looked for by, one with its history, and what its records hold.

Invariant: lists come from the store alone, so a page costs Kafka nothing; only `content` reads a record or two there.
"""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Response

from fairlane.monitor.api.answers import answers, said
from fairlane.monitor.api.parameters import Cursor, Limit, Text, Time, Words
from fairlane.monitor.api.serving import Served, Serving, Viewer
from fairlane.monitor.store import letter_queries, queries
from fairlane.monitor.store.content import Content, content_of
from fairlane.monitor.store.letter_queries import LetterItem
from fairlane.monitor.store.queries import TaskQuestion
from fairlane.monitor.store.task_item import AttemptItem, TaskItem, item_of
from fairlane.monitor.store.task_pages import TaskPage, page_of
from fairlane.monitor.store.task_row import TaskRow
from fairlane.topics.audit import AuditRecord
from fairlane.topics.errors import TaskUnknown
from fairlane.topics.events import State

router = APIRouter(tags=["tasks"])

_LETTERS = 100


class TaskDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A task: what was told after its attempts, its letters, and who did what with it."""

    task: TaskItem
    attempts: tuple[AttemptItem, ...] = ()
    letters: tuple[LetterItem, ...] = ()
    audit: tuple[AuditRecord, ...] = ()


@router.get("/tasks", responses=answers(TaskPage, 400))
def tasks(
    serving: Served,
    _: Viewer,
    id: Text = "",  # noqa: A002 - the name in the URL
    state: State | None = None,
    type: Text = "",  # noqa: A002
    lane: Text = "",
    key: Text = "",
    error: Words = "",
    since_ms: Time = 0,
    until_ms: Time = 0,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Response:
    """Tasks that fit all that is said, by when they were enqueued."""
    asked = TaskQuestion(
        id=id, state=state, type=type, lane=lane, key=key, error=error, since_ms=since_ms, until_ms=until_ms
    )
    with serving.readers.lent() as database:
        return said(page_of(database, asked, serving.running, limit=limit, cursor=cursor))


@router.get("/tasks/{task_id:path}/content", responses=answers(Content, 404))
def content(task_id: str, serving: Served, _: Viewer) -> Response:
    """Payload, headers, result and traceback of a task, as far as Kafka still has the records."""
    return said(content_of(serving.connection, serving.names, _row(serving, task_id), timeout_s=serving.timeout_s))


@router.get("/tasks/{task_id:path}", responses=answers(TaskDetail, 404))
def task(task_id: str, serving: Served, _: Viewer) -> Response:
    """One task with its history."""
    row = _row(serving, task_id)
    with serving.readers.lent() as database:
        letters, _next = letter_queries.letters(
            database, serving.names.dlq, limit=_LETTERS, every=True, task_id=task_id
        )
        audit, _next = queries.audit(database, limit=_LETTERS, task_id=task_id)
        attempts = queries.attempts(database, task_id)
    item = item_of(row, serving.running.get(task_id))
    return said(TaskDetail(task=item, attempts=attempts, letters=letters, audit=audit))


def _row(serving: Serving, task_id: str) -> TaskRow:
    with serving.readers.lent() as database:
        found = queries.tasks_of(database, [task_id])
    if not found:
        raise TaskUnknown(task_id, serving.names.queue, 7 * 86_400)
    return found[0]
