"""`fairlane monitor`: what a queue looks like now, once or live.

Invariant: where standard output is no terminal that can be drawn on, it says what there is once and ends, its first
four lines as the contract has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from fairlane.cli.monitor_serve import serve
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
from fairlane.cli.topics_view import console
from fairlane.monitor.live import Source, watch
from fairlane.monitor.screen import contract_lines, more_lines, report
from fairlane.monitor.show import json_text
from fairlane.monitor.snapshot import Watcher
from fairlane.topics.clock import now_ms

app = typer.Typer(name="monitor", help="Watch a queue.")
app.command()(serve)


@app.callback(invoke_without_command=True)
def monitor(
    context: typer.Context,
    queue: QueueOption = "",
    once: Annotated[bool, typer.Option("--once", help="Say how it is now and end.")] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.2, help="Between two looks, live.")
    ] = 1.0,
    monitor_url: MonitorUrlOption = None,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Watch a queue: lengths, ages, workers, times and rates, live in the terminal; q quits.

    Lengths of short lanes and tiers are counted; long ones are estimates and marked by ~. With --once or --json, and
    where the output is no terminal or a dumb one, it says how it is now and ends. The numbers are those of the HTTP
    API: from the monitor at --monitor-url, or from Kafka, by the same code.
    """
    if context.invoked_subcommand is not None:
        return
    out = console()
    with _source(queue, queue_url, properties, monitor_url, timeout_s) as source:
        if not (once or as_json) and out.is_terminal and not out.is_dumb_terminal:
            watch(source, out, interval_s)
            return
        stats = source.collect(now_ms())
    if as_json:
        typer.echo(json_text(stats.to_json()))
        return
    for line in (*contract_lines(stats), *more_lines(stats)):
        typer.echo(line)
    out.print(report(stats, out.width))


@contextmanager
def _source(
    queue: str, queue_url: str, properties: list[str] | None, monitor_url: str | None, timeout_s: float
) -> Iterator[Source]:
    remote = remote_monitor(queue, queue_url, monitor_url, timeout_s)
    if remote is not None:
        yield remote[0]
        return
    target = queue_target(queue, queue_url, properties)
    with Watcher(target.connection, target.names, timeout_s=timeout_s) as watcher:
        yield watcher
