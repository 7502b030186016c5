"""`fairlane status`: what the queue knows of one task.

Invariant: `Status: …` is the first line and `Result: …` the second of a task that completed, whatever else is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer

from fairlane.cli.options import JsonOption, PropertyOption, QueueOption, QueueUrlOption, TimeoutOption, queue_target
from fairlane.monitor.lookup import find_task
from fairlane.monitor.show import age, duration, json_text, moment, visible
from fairlane.monitor.task_view import Place, TaskView
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import UsageError
from fairlane.topics.events import UNREADABLE


def status(
    task: Annotated[str, typer.Argument(metavar="[ID]", help="Id of the task.", show_default=False)] = "",
    task_id: Annotated[str, typer.Option("--task-id", metavar="ID", help="The same.")] = "",
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Say what the queue knows of a task, also of one that another client enqueued.

    Exit code 5: nothing speaks of it. Statuses are kept for 7 days.
    """
    if bool(task) == bool(task_id):
        raise UsageError("no task is named" if not task else "two tasks are named", "Say --task-id ID")
    target = queue_target(queue, queue_url, properties)
    now = now_ms()
    found = find_task(target.connection, target.names, task or task_id, now_ms=now, timeout_s=timeout_s)
    if as_json:
        typer.echo(json_text(found.to_json()))
        return
    for name, text in lines_of(found, now):
        typer.echo(f"{name}: {text}")


def lines_of(task: TaskView, now_ms: int) -> Iterator[tuple[str, str]]:
    """Name and text of each line about a task; text of others is made harmless."""
    yield "Status", task.state
    if task.state == "completed":
        yield "Result", result_text(task.result)
    if task.error is not None:
        yield "Error", visible(f"{task.error.type}: {task.error.message}" if task.error.message else task.error.type)
    if task.reason:
        yield "Reason", visible(task.reason)
    yield "Task", visible(task.id)
    if task.type:
        yield "Type", visible(task.type)
    if task.attempt:
        yield "Attempt", f"{task.attempt} of {task.max_attempts}" if task.max_attempts else str(task.attempt)
    yield from _times(task, now_ms)
    if task.worker:
        yield "Worker", visible(task.worker)
    if task.place is not None:
        yield from _where(task, task.place)
    elif task.lane:
        yield "Lane", visible(task.lane)
    if task.trace_id:
        yield "Trace", visible(task.trace_id)


def result_text(result: msgspec.Raw) -> str:
    """A result on one line: text as it is, anything else as JSON."""
    try:
        value = msgspec.json.decode(result)
    except UNREADABLE:
        return visible(bytes(result).decode("utf-8", "replace"))
    return visible(value if isinstance(value, str) else bytes(result).decode())


def _times(task: TaskView, now_ms: int) -> Iterator[tuple[str, str]]:
    if task.enqueued_ms:
        yield "Enqueued", _ago(task.enqueued_ms, now_ms)
    if task.replayed_ms:
        yield "Replayed", _ago(task.replayed_ms, now_ms)
    if task.state in ("pending", "retrying") and task.due_ms:
        yield "Due", f"{moment(task.due_ms)} ({_until(task.due_ms, now_ms)})"
    if task.state == "running":
        yield "Running since", f"{moment(task.started_ms)} ({duration(max(0, now_ms - task.started_ms))})"
    elif task.finished_ms:
        took = f", took {duration(task.finished_ms - task.started_ms)}" if task.started_ms else ""
        yield "Finished", _ago(task.finished_ms, now_ms) + took
    if task.expires_ms and task.state in ("pending", "retrying"):
        yield "Expires", f"{moment(task.expires_ms)} ({_until(task.expires_ms, now_ms)})"


def _where(task: TaskView, place: Place) -> Iterator[tuple[str, str]]:
    record = f"{place.topic}/{place.partition}/{place.offset}"
    if place.kind == "dlq":
        replayed = " (replayed)" if place.replayed else ""
        yield "Dead letter", f"{record}{replayed}, see `fairlane dlq show {record} --queue {task.queue}`"
        return
    before = f", about {place.before:,} before it in its partition" if place.before and task.state != "running" else ""
    yield "Record", f"{place.kind} {record}{before}"


def _ago(at_ms: int, now_ms: int) -> str:
    return f"{moment(at_ms)} ({age(now_ms - at_ms)} ago)" if at_ms <= now_ms else moment(at_ms)


def _until(at_ms: int, now_ms: int) -> str:
    return f"in {age(at_ms - now_ms)}" if at_ms > now_ms else f"{age(now_ms - at_ms)} ago: as soon as a worker is free"
