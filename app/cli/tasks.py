"""`fairlane tasks list` and `watch`: the tasks of a queue, by what is known of them.

Invariant: filters and answers are those of the monitor's HTTP API, whether a monitor is asked or Kafka itself is read;
what others wrote never acts on the terminal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import msgspec
import typer

from fairlane.cli import tasks_view as view
from fairlane.cli.letter_options import lane_topic, moment_ms
from fairlane.cli.option_set import takes
from fairlane.cli.options import (
    JsonOption,
    MonitorUrlOption,
    PropertyOption,
    QueueOption,
    QueueUrlOption,
    TimeoutOption,
    queue_target,
    remote_monitor,
)
from fairlane.monitor.own_store import OwnStore
from fairlane.monitor.remote import RemoteMonitor
from fairlane.monitor.show import json_text
from fairlane.monitor.store.queries import TaskQuestion
from fairlane.monitor.store.task_item import TaskItem
from fairlane.topics.errors import UsageError
from fairlane.topics.events import State
from fairlane.topics.names import QueueNames

app = typer.Typer(name="tasks", help="The tasks of a queue.", no_args_is_help=True)


def _option(name: str, metavar: str, told: str) -> Any:
    return typer.Option(f"--{name}", metavar=metavar, help=told)


@dataclass(frozen=True)
class TaskOptions:
    """What was said of which tasks, as for `GET /tasks`."""

    task_id: Annotated[str, _option("id", "ID", "Only this task.")] = ""
    state: Annotated[State | None, typer.Option("--state", help="Only tasks in this state.", show_default=False)] = None
    task_type: Annotated[str, _option("type", "TYPE", "Only of this type.")] = ""
    lane: Annotated[str, _option("lane", "LANE", "Only of this lane: its level (5, p5) or its topic.")] = ""
    key: Annotated[str, _option("key", "KEY", "Only with this key.")] = ""
    error: Annotated[str, _option("error", "WORDS", "Only with these words, or beginnings, in the last error.")] = ""
    since: Annotated[str, _option("since", "TIME", "Only enqueued since: 2h ago, or 2026-11-24T05:00:00Z.")] = ""
    until: Annotated[str, _option("until", "TIME", "Only enqueued before: 2h ago, or a time.")] = ""

    def question(self, queue: str) -> TaskQuestion:
        """What is asked.

        Raises:
            UsageError: a value is not of its form.
        """
        return TaskQuestion(
            id=self.task_id,
            state=self.state,
            type=self.task_type,
            lane=lane_topic(QueueNames(queue), self.lane),
            key=self.key,
            error=self.error,
            since_ms=moment_ms(self.since, "--since"),
            until_ms=moment_ms(self.until, "--until"),
        )


@contextlib.contextmanager
def _asked(
    chosen: TaskOptions,
    queue: str,
    queue_url: str,
    properties: list[str] | None,
    monitor_url: str | None,
    timeout_s: float,
) -> Iterator[tuple[RemoteMonitor | OwnStore, TaskQuestion]]:
    """Who answers, and what it is asked."""
    remote = remote_monitor(queue, queue_url, monitor_url, timeout_s)
    if remote is not None:
        monitor, stats = remote
        yield monitor, chosen.question(stats.queue)
        return
    target = queue_target(queue, queue_url, properties)
    question = chosen.question(target.names.queue)
    with OwnStore(target.connection, target.names, since_ms=question.since_ms, timeout_s=timeout_s) as store:
        store.fill()
        yield store, question


def _list(
    chosen: TaskOptions,
    queue: QueueOption = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1_000_000, help="At most so many.")] = 50,
    cursor: Annotated[
        str, typer.Option("--cursor", metavar="CURSOR", help="The next page, as the one before names it.")
    ] = "",
    monitor_url: MonitorUrlOption = None,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """List the tasks that fit all that is said, those that were enqueued last first.

    A monitor answers at once. Without one, the last week of the queue is read from Kafka, or what --since says.
    """
    with _asked(chosen, queue, queue_url, properties, monitor_url, timeout_s) as (source, question):
        if cursor and isinstance(source, OwnStore):
            raise UsageError("a cursor belongs to the monitor that gave it", "Say --monitor-url, or a larger --limit")
        page = source.page(question, limit=limit, cursor=cursor)
        pages = isinstance(source, RemoteMonitor)
    if as_json:
        typer.echo(json_text(msgspec.json.encode(page)))
    else:
        view.print_page(page, pages=pages)


def _watch(
    chosen: TaskOptions,
    queue: QueueOption = "",
    last: Annotated[int, typer.Option("--last", metavar="N", min=0, max=1_000, help="Begin with so many.")] = 10,
    count: Annotated[int, typer.Option("--count", metavar="N", min=0, help="End after so many lines; 0 is never.")] = 0,
    monitor_url: MonitorUrlOption = None,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Say a line for each task that fits whenever it changes, until Ctrl-C; with --json an object a line.

    It begins with those that were enqueued last. Where more change than can be told, it tells the newest.
    """
    with (
        contextlib.suppress(KeyboardInterrupt),
        _asked(chosen, queue, queue_url, properties, monitor_url, timeout_s) as (source, question),
        source.watching(question) as changes,
    ):
        known = source.page(question, limit=last).tasks[::-1] if last else ()
        tell = view.Lines(as_json=as_json)
        for item in islice(_new(known, changes), count or None):
            tell(item)


def _new(known: Sequence[TaskItem], changes: Iterator[TaskItem]) -> Iterator[TaskItem]:
    """The tasks that are known, and what changes: a change that came while they were asked for is among them."""
    yield from known
    told = set(known)
    for item in changes:
        if item not in told:
            yield item


app.command("list")(takes(TaskOptions, _list))
app.command("watch")(takes(TaskOptions, _watch))
