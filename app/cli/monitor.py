"""`fairlane monitor`: what a queue looks like now, once or live.

Invariant: where standard output is no terminal it says what there is once and ends, its first four lines as the
contract has them.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fairlane.cli.monitor_serve import serve
from fairlane.cli.options import JsonOption, PropertyOption, QueueOption, QueueUrlOption, TimeoutOption, queue_target
from fairlane.cli.topics_view import console
from fairlane.monitor.live import watch
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
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Watch a queue: lengths, ages, workers, times and rates, live in the terminal; q quits.

    Lengths of short lanes and tiers are counted; long ones are estimates and marked by ~. With --once or --json, and
    where the output is no terminal, it says how it is now and ends.
    """
    if context.invoked_subcommand is not None:
        return
    target = queue_target(queue, queue_url, properties)
    with Watcher(target.connection, target.names, timeout_s=timeout_s) as watcher:
        if not (once or as_json) and sys.stdout.isatty():
            watch(watcher, console(), interval_s)
            return
        stats = watcher.collect(now_ms())
    if as_json:
        typer.echo(json_text(stats.to_json()))
        return
    for line in (*contract_lines(stats), *more_lines(stats)):
        typer.echo(line)
    out = console()
    out.print(report(stats, out.width))
