"""`fairlane weight`, `kill` and `demote`: what operators ask of all workers until it is taken back.

Invariant: what is printed is in Kafka, acknowledged, and in the audit; text of others is made harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, get_args

import msgspec
import typer

from fairlane.cli.control_options import ForOption, ReasonOption, UntilOption, controller_of, until_of
from fairlane.cli.options import (
    JsonOption,
    PropertyOption,
    QueueOption,
    QueueUrlOption,
    TimeoutOption,
    queue_target,
)
from fairlane.monitor.order_view import order_lines, what
from fairlane.monitor.show import json_text, visible
from fairlane.topics.clock import now_ms
from fairlane.topics.control import Action, ControlRecord
from fairlane.topics.errors import UsageError


def weight(
    lanes: Annotated[
        list[str] | None,
        typer.Argument(metavar="LANE=WEIGHT...", help="p5=16 p3=2; with --off only lanes.", show_default=False),
    ] = None,
    queue: QueueOption = "",
    off: Annotated[bool, typer.Option("--off", help="Back to what is configured, by default of all lanes.")] = False,
    for_: ForOption = "",
    until: UntilOption = "",
    reason: ReasonOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Let lanes have other weights than workers are configured with: their shares while all have tasks."""
    target = queue_target(queue, queue_url, properties)
    controller = controller_of(target, timeout_s)
    if off:
        taken_back = controller.unweigh(lanes or (), reason=reason)
        _say(taken_back, target.names.queue, as_json, "{} has its configured weight again.", "No lane had another.")
        return
    weights = dict(map(_weight, lanes or ()))
    found = controller.weigh(weights, until_ms=until_of(for_, until), reason=reason)
    _say(found, target.names.queue, as_json)


NamedTypeOption = Annotated[str, typer.Option("--type", metavar="TYPE", help="Of these tasks.", show_default=False)]


def kill(
    task_type: NamedTypeOption,
    queue: QueueOption = "",
    action: Annotated[
        str, typer.Option("--action", metavar="WHAT", help="drop: cancelled; dlq: a dead letter; park: they wait.")
    ] = "",
    where: Annotated[
        str, typer.Option("--where", metavar="IF", help="""Only these: '/to = "x@y"', 'header:tenant = acme'.""")
    ] = "",
    off: Annotated[bool, typer.Option("--off", help="Take it back, without --where all of the type.")] = False,
    for_: ForOption = "",
    until: UntilOption = "",
    reason: ReasonOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Let no task of a type begin any more, or none that fits a condition on its payload or headers. What runs goes on.

    A condition compares what a JSON pointer, or `header:NAME`, finds: = != < <= > >= contains exists. One that cannot
    be evaluated for a task does not fit it.
    """
    target = queue_target(queue, queue_url, properties)
    controller = controller_of(target, timeout_s)
    if off:
        _say(controller.unkill(task_type, where=where, reason=reason), target.names.queue, as_json, "No more: {}.")
        return
    if action not in get_args(Action):
        raise UsageError("no action is named", "Say --action drop, --action dlq or --action park")
    chosen: Action = action  # type: ignore[assignment]
    found = controller.kill(task_type, chosen, where=where, until_ms=until_of(for_, until), reason=reason)
    _say((found,), target.names.queue, as_json)


def demote(
    task_type: NamedTypeOption,
    queue: QueueOption = "",
    to: Annotated[str, typer.Option("--to", metavar="LANE", help="The lane: its level (1, p1) or its topic.")] = "",
    off: Annotated[bool, typer.Option("--off", help="Take it back; what was moved stays where it is.")] = False,
    for_: ForOption = "",
    until: UntilOption = "",
    reason: ReasonOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Move the tasks of a type out of all lanes that are more urgent than one: those that wait, and new ones."""
    target = queue_target(queue, queue_url, properties)
    controller = controller_of(target, timeout_s)
    if off:
        _say(controller.undemote(task_type, reason=reason), target.names.queue, as_json, "No more: {}.")
        return
    found = controller.demote(task_type, to, until_ms=until_of(for_, until), reason=reason)
    _say((found,), target.names.queue, as_json)


def _weight(text: str) -> tuple[str, int]:
    lane, equals, number = text.rpartition("=")
    if not (equals and lane and number.isascii() and number.isdigit() and len(number) < 10):
        raise UsageError(f"{text!r} is no weight of a lane", "Say p5=16; `--off` goes back to the configured ones")
    return lane, int(number)


def _say(records: Sequence[ControlRecord], queue: str, as_json: bool, taken_back: str = "", nothing: str = "") -> None:
    """Say what is in force now, or what was taken back."""
    if as_json:
        typer.echo(json_text(msgspec.json.encode(records)))
    elif taken_back:
        typer.echo("\n".join(taken_back.format(visible(each.lane) or what(each)) for each in records) or nothing)
    else:
        for line in order_lines(records, queue, now_ms()):
            typer.echo(f"{line}.")
