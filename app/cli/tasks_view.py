"""How `fairlane tasks` shows tasks: a table, and a line for each change.

Invariant: it only shows; text of others goes through `visible` first. On a terminal no line is longer than it is wide;
where there is none, nothing is cut, so that other programs see whole values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec
import typer

from fairlane.cli.topics_view import console, counted
from fairlane.monitor.section import Column, Section, line
from fairlane.monitor.show import age, duration, json_line, visible
from fairlane.monitor.store.task_item import TaskItem
from fairlane.monitor.store.task_pages import TaskPage
from fairlane.topics.clock import now_ms

_COLUMNS: Final[tuple[tuple[Column, Callable[[TaskItem, int], str], int], ...]] = (
    (Column("State", right=False), lambda item, _: item.state, 9),
    (Column("Type", right=False, least=12), lambda item, _: item.type, 16),
    (Column("Task", right=False, least=36), lambda item, _: item.id, 36),
    (Column("Error", right=False, rank=1, least=12), lambda item, _: _error(item), 48),
    (Column("Enqueued", rank=2), lambda item, now: f"{age(now - item.at_ms)} ago" if item.at_ms else "", 11),
    (Column("Attempt", rank=3), lambda item, _: str(item.attempt or ""), 7),
    (Column("Lane", right=False, rank=4, least=4), lambda item, _: item.lane, 12),
    (Column("Took", rank=5), lambda item, _: _took(item), 6),
    (Column("Key", right=False, rank=6, least=6), lambda item, _: item.key, 12),
    (Column("Worker", right=False, rank=7, least=8), lambda item, _: item.worker, 16),
)
"""Each column, what it says of a task, and how wide it is where its values are not known before."""

_TIME: Final = Column("At", right=False)


def print_page(page: TaskPage, *, pages: bool) -> None:
    """The tasks as a table, and how to see more; `pages` says whether there are cursors."""
    if not page.tasks:
        typer.echo("No task fits.")
        return
    out, now = console(), now_ms()
    rows = tuple(tuple(visible(cell(item, now)) or "-" for _, cell, _ in _COLUMNS) for item in page.tasks)
    out.print(Section(tuple(column for column, _, _ in _COLUMNS), rows).table(out.width))
    typer.echo()
    more = f"--cursor {page.next} shows the next, " if pages else ""
    tail = f" There are more: {more}--limit {len(page.tasks) * 10} more of them." if page.next else ""
    typer.echo(f"{counted(len(page.tasks), 'task')}.{tail}")


class Lines:
    """A line for each task that it is told of; before the first, on a terminal, the names of the columns."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._columns = (_TIME, *(column for column, _, _ in _COLUMNS if column.name != "Enqueued"))
        self._cells = tuple(cell for column, cell, _ in _COLUMNS if column.name != "Enqueued")
        self._widths: dict[int, int] | None = None
        if sys.stdout.isatty() and not as_json:
            typical = ("x" * 8, *("x" * wide for column, _, wide in _COLUMNS if column.name != "Enqueued"))
            self._widths = Section(self._columns, (typical,)).fit(console().width)
            names = tuple(column.name for column in self._columns)
            typer.echo(line(names, self._columns, self._widths))

    def __call__(self, item: TaskItem) -> None:
        """Say how it is."""
        if self._as_json:
            typer.echo(json_line(msgspec.json.encode(item)))
            return
        at_ms = item.finished_ms or item.started_ms or item.at_ms
        clock = f"{datetime.fromtimestamp(at_ms / 1_000).astimezone():%H:%M:%S}" if 0 < at_ms < 10**14 else ""
        cells = tuple(visible(text) or "-" for text in (clock, *(cell(item, at_ms) for cell in self._cells)))
        typer.echo(line(cells, self._columns, self._widths) if self._widths is not None else "  ".join(cells))


def _error(item: TaskItem) -> str:
    error = f"{item.error_type}: {item.error_message}" if item.error_message else item.error_type
    return f"{item.reason}: {error}" if item.reason and error else error or item.reason


def _took(item: TaskItem) -> str:
    return duration(item.finished_ms - item.started_ms) if item.finished_ms >= item.started_ms > 0 else ""
