"""`fairlane schedule …`: the schedules of a queue, added, paused and removed while workers run, or before they do.

Invariant: what is printed as asked is in Kafka, acknowledged, and in the audit; whether an owner has taken it up is
said. Text of others is made harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import msgspec
import typer

from fairlane.cli.durations import parse_duration_s
from fairlane.cli.enqueue import read_payload
from fairlane.cli.options import (
    JsonOption,
    PropertyOption,
    QueueOption,
    QueueTarget,
    QueueUrlOption,
    TimeoutOption,
    queue_target,
)
from fairlane.cli.topics_view import console
from fairlane.monitor.schedules import Asked, ScheduleKeeper
from fairlane.monitor.section import Column, Section
from fairlane.monitor.show import json_text, moment, visible
from fairlane.operator import user_and_host
from fairlane.scheduling import jitter_ms, period_ms
from fairlane.task_options import lane_of
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import UsageError
from fairlane.topics.schedules import Misfire, Schedule, ScheduleState, checked

app = typer.Typer(name="schedule", help="Tasks that are due by the clock.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.", show_default=False)]


@app.command()
def add(
    name: NameArgument,
    type: Annotated[str, typer.Option("--type", "-t", metavar="NAME", help="Type of its tasks.")],  # noqa: A002
    cron: Annotated[str, typer.Option("--cron", metavar="'M H D M W'", help="When: 0 9 * * 1-5.")] = "",
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="Or a period: 30s, 1h.")] = "",
    tz: Annotated[str, typer.Option("--tz", metavar="ZONE", help="Time zone of --cron: Europe/Berlin.")] = "UTC",
    payload: Annotated[
        str, typer.Option("--payload", "-p", metavar="JSON", help="Of its tasks; @FILE reads a file.")
    ] = "{}",
    misfire: Annotated[
        str, typer.Option("--misfire", metavar="POLICY", help="What was missed: skip, latest, all (up to 1,000).")
    ] = "latest",
    jitter: Annotated[str, typer.Option("--jitter", metavar="TIME", help="Due up to so much later, drawn.")] = "0s",
    priority: Annotated[int, typer.Option("--priority", metavar="N", help="Level of the lane.")] = 3,
    key: Annotated[str, typer.Option("--key", help="Key of its tasks.")] = "",
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="Not worth a start so much later.")] = "",
    max_attempts: Annotated[
        int, typer.Option("--max-attempts", metavar="N", show_default="the handler's policy", help="Attempts in all.")
    ] = 0,
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Add a schedule, or change one that was added: fairlane schedule add nightly -t report --cron '0 3 * * *'."""
    target = queue_target(queue, queue_url, properties)
    if misfire not in ("skip", "latest", "all"):
        raise UsageError(f"--misfire {misfire!r} is none", "Say skip, latest or all")
    policy: Misfire = misfire  # type: ignore[assignment]
    schedule = Schedule(
        name=name,
        type=type,
        cron=cron,
        every_ms=period_ms(parse_duration_s(every, "--every")) if every else 0,
        tz=tz,
        misfire=policy,
        jitter_ms=jitter_ms(parse_duration_s(jitter, "--jitter")),
        payload=read_payload(payload, raw=False),
        priority=lane_of(priority, target.lanes).level,
        key=key.encode() or None,
        expires_ms=round(parse_duration_s(expires, "--expires") * 1000) if expires else 0,
        max_attempts=max_attempts,
        source=target.settings.source,
        by="cli",
        defined_ms=now_ms(),
    )
    _say(_keeper(target, timeout_s).add(checked(schedule)), name, "added", as_json=as_json)


@app.command()
def pause(
    name: NameArgument,
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Let a schedule make no tasks. What would have been due until it is resumed is not made up for."""
    keeper = _keeper(queue_target(queue, queue_url, properties), timeout_s)
    _say(keeper.pause(name), name, "paused", as_json=as_json)


@app.command()
def resume(
    name: NameArgument,
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Let a paused schedule go on, from now on."""
    keeper = _keeper(queue_target(queue, queue_url, properties), timeout_s)
    _say(keeper.resume(name), name, "resumed", as_json=as_json)


@app.command()
def remove(
    name: NameArgument,
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Remove a schedule that was added here. Those of the app go when the app no longer defines them."""
    keeper = _keeper(queue_target(queue, queue_url, properties), timeout_s)
    _say(keeper.remove(name), name, "removed", as_json=as_json)


@app.command("list")
def list_(
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """List the schedules of a queue: when they are due, how far they are, and whether they are paused."""
    found = _keeper(queue_target(queue, queue_url, properties), timeout_s).all()
    if as_json:
        typer.echo(json_text(msgspec.json.encode(found)))
        return
    if not found:
        typer.echo("There are no schedules.")
        return
    out = console()
    rows = tuple(tuple(visible(text) or "-" for text in _row(state)) for state in found)
    out.print(Section(_COLUMNS, rows).table(out.width))


@app.command("next")
def next_(
    name: NameArgument,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1_000, help="How many.")] = 5,
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Show when a schedule is due next, in its own order; jitter comes on top."""
    state = _keeper(queue_target(queue, queue_url, properties), timeout_s).get(name)
    found = list(islice(_instants(state), count))
    if as_json:
        typer.echo(json_text(msgspec.json.encode(found)))
        return
    if state.paused_ms:
        typer.echo(f"It is paused since {moment(state.paused_ms)} by {visible(state.paused_by) or 'somebody'}.")
    for each in found:
        typer.echo(moment(each))


def _instants(state: ScheduleState) -> Iterator[int]:
    at_ms: int | None = max(state.last_ms, now_ms())
    table = state.schedule.timetable
    while at_ms is not None and (at_ms := table.after(at_ms)) is not None:
        yield at_ms


_COLUMNS = (
    Column("Name", right=False, least=12),
    Column("When", right=False, least=10),
    Column("Type", right=False, least=8),
    Column("Next", right=False),
    Column("Last", right=False, rank=1),
    Column("Tasks", rank=2),
    Column("By", right=False, rank=3),
)


def _row(state: ScheduleState) -> tuple[str, ...]:
    schedule = state.schedule
    following = "paused" if state.paused_ms else next((moment(each) for each in _instants(state)), "never")
    last = moment(state.last_ms) if state.fired else ""
    return (schedule.name, schedule.when, schedule.type, following, last, f"{state.fired:,}", schedule.by)


def _say(asked: Asked, name: str, done: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json_text(msgspec.json.encode({"name": name, "taken_up": asked.taken_up, "state": asked.state})))
    elif not asked.taken_up:
        typer.echo(f"{visible(name)}: to be {done}: no worker has taken it up yet; the first one that runs will.")
    elif asked.state is not None and not asked.state.paused_ms:
        due = next((moment(each) for each in _instants(asked.state)), "never")
        typer.echo(f"{visible(name)}: {done}. It is due next at {due}.")
    else:
        typer.echo(f"{visible(name)}: {done}.")


def _keeper(target: QueueTarget, timeout_s: float) -> ScheduleKeeper:
    return ScheduleKeeper(target.connection, target.names, who=user_and_host(), via="cli", timeout_s=timeout_s)
