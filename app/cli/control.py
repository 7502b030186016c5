"""`fairlane cancel`, `pause`, `resume` and `control list`: what an operator asks of all workers of a queue.

Invariant: what is printed is in Kafka, acknowledged, and in the audit; text of others is made harmless.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from fairlane.cli.control_options import ForOption, ReasonOption, TypeOption, UntilOption, controller_of, until_of
from fairlane.cli.options import (
    JsonOption,
    PropertyOption,
    QueueOption,
    QueueUrlOption,
    TimeoutOption,
    queue_target,
)
from fairlane.cli.topics_view import console
from fairlane.monitor.cancel_view import cancel_words
from fairlane.monitor.order_view import pause_line
from fairlane.monitor.section import Column, Section
from fairlane.monitor.show import json_text, moment, visible
from fairlane.topics.clock import now_ms
from fairlane.topics.control import DEMOTE, KILL, WEIGHT, ControlRecord

app = typer.Typer(name="control", help="What operators ask of the workers of a queue.", no_args_is_help=True)

LaneOption = Annotated[
    str, typer.Option("--lane", metavar="LANE", help="Only this lane: its level (3, p3) or its topic.")
]


def cancel(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of tasks.", show_default=False)],
    queue: QueueOption = "",
    reason: ReasonOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Cancel tasks: one that waits never runs, one that runs is cut off. It needs no worker to be there.

    Exit code 5: all of them had ended already, or nothing speaks of them (those are remembered for 30 days).
    """
    target = queue_target(queue, queue_url, properties)
    answers = controller_of(target, timeout_s).cancel(ids, reason=reason)
    if as_json:
        typer.echo(json_text(msgspec.json.encode(answers)))
    else:
        for answer in answers:
            typer.echo(f"{visible(answer.id)}: {cancel_words(answer)}")
    if all(answer.found in ("ended", "unknown") for answer in answers):
        raise typer.Exit(5)


def pause(
    queue: QueueOption = "",
    lane: LaneOption = "",
    task_type: TypeOption = "",
    for_: ForOption = "",
    until: UntilOption = "",
    reason: ReasonOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Start nothing more of a queue, a lane or a type, until `fairlane resume`. What runs goes on; nothing is lost."""
    target = queue_target(queue, queue_url, properties)
    record = controller_of(target, timeout_s).pause(
        lane, task_type=task_type, until_ms=until_of(for_, until), reason=reason
    )
    if as_json:
        typer.echo(json_text(msgspec.json.encode(record)))
        return
    typer.echo(f"{pause_line(record, target.names.queue, record.at_ms)}. Running tasks go on.")


def resume(
    queue: QueueOption = "",
    lane: LaneOption = "",
    task_type: TypeOption = "",
    reason: ReasonOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Let a paused queue, lane or type go on. What was paused by itself stays so when the queue goes on."""
    target = queue_target(queue, queue_url, properties)
    left = controller_of(target, timeout_s).resume(lane, task_type=task_type, reason=reason)
    if as_json:
        typer.echo(json_text(msgspec.json.encode(left)))
        return
    what = f"type {task_type}" if task_type else lane or f"queue {target.names.queue}"
    typer.echo(f"{visible(what)} goes on.")
    for record in left:
        typer.echo(f"Still so: {pause_line(record, target.names.queue, now_ms())}.")


@app.command("list")
def list_(
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """List what is in force, and the cancels that wait for their tasks. `fairlane audit` has the history."""
    target = queue_target(queue, queue_url, properties)
    found = controller_of(target, timeout_s).in_force()
    if as_json:
        typer.echo(json_text(msgspec.json.encode(found)))
        return
    if not found:
        typer.echo("Nothing is paused or asked for, and no cancel waits.")
        return
    out = console()
    rows = tuple(tuple(visible(text) or "-" for text in _row(record)) for record in found)
    out.print(Section(_COLUMNS, rows).table(out.width))


_COLUMNS = (
    Column("What", right=False),
    Column("Of", right=False, least=12),
    Column("Who", right=False, least=8),
    Column("Since", right=False),
    Column("Until", right=False, rank=1),
    Column("Reason", right=False, rank=2, least=8),
)


def _row(record: ControlRecord) -> tuple[str, ...]:
    until = moment(record.until_ms) if record.until_ms else ""
    of = record.lane or record.task_id or record.scope
    more = {WEIGHT: f" = {record.weight:,}", KILL: f": {record.action}", DEMOTE: f" to {record.to}"}
    of += more.get(record.kind, "")
    return (record.kind, of, record.who, moment(record.at_ms), until, record.reason)
