"""`fairlane explain`: where a task is, what holds it there, and when it should start.

Invariant: it only reads, for a bounded time; text of others is made harmless.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from fairlane.cli.options import JsonOption, PropertyOption, QueueOption, QueueUrlOption, TimeoutOption, queue_target
from fairlane.cli.status import lines_of
from fairlane.monitor.explain import explain as explained
from fairlane.monitor.lookup import find_task
from fairlane.monitor.show import json_text, moment, visible
from fairlane.monitor.snapshot import Watcher
from fairlane.monitor.standing import cancel_of
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import UsageError
from fairlane.topics.events import TERMINAL


def explain(
    task: Annotated[str, typer.Argument(metavar="[ID]", help="Id of the task.", show_default=False)] = "",
    task_id: Annotated[str, typer.Option("--task-id", metavar="ID", help="The same.")] = "",
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Say where a task is, how many are before it, what holds it, and when it should start; or what became of it.

    Exit code 5: nothing speaks of it.
    """
    if bool(task) == bool(task_id):
        raise UsageError("no task is named" if not task else "two tasks are named", "Say --task-id ID")
    target = queue_target(queue, queue_url, properties)
    found = find_task(target.connection, target.names, task or task_id, now_ms=now_ms(), timeout_s=timeout_s)
    stats = cancel = None
    if found.state not in TERMINAL:
        cancel = cancel_of(target.connection, target.names, found, now_ms(), timeout_s=timeout_s)
        with Watcher(target.connection, target.names, timeout_s=timeout_s) as watcher:
            stats = watcher.collect(now_ms())
    now = now_ms()
    said = explained(found, stats, now, cancel)
    if as_json:
        typer.echo(json_text(msgspec.json.encode(said)))
        return
    typer.echo(f"Because: {visible(said.why)}.")
    if said.before > 0 and said.held_by != "backlog":
        typer.echo(f"Before it: about {said.before:,}")
    if said.starts_ms > now:
        typer.echo(f"Should start: {moment(said.starts_ms)} (in about {(said.starts_ms - now) / 1_000:,.0f} s)")
    if said.advice:
        typer.echo(f"Advice: {visible(said.advice)}.")
    for name, text in lines_of(found, now):
        typer.echo(f"{name}: {text}")
