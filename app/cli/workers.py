"""`fairlane workers`: who works on a queue, on whichever machines.

Invariant: its numbers are those that `fairlane monitor` shows: both are made of the same snapshot.
"""

from __future__ import annotations

from typing import Annotated

import typer

from fairlane.cli.options import JsonOption, PropertyOption, QueueOption, QueueUrlOption, TimeoutOption, queue_target
from fairlane.cli.topics_view import console
from fairlane.monitor.show import json_text
from fairlane.monitor.snapshot import Watcher
from fairlane.monitor.workers_view import workers_json, workers_lines, workers_table
from fairlane.topics.clock import now_ms


def workers(
    queue: QueueOption = "",
    every: Annotated[
        bool, typer.Option("--all", help="Also those that have stopped, and those lost more than 5 minutes ago.")
    ] = False,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """List the workers of a queue: state, running tasks, utilisation, partitions and their lag, host, version.

    A worker is lost when nothing was heard of it for five seconds, and it did not say that it stops.
    """
    target = queue_target(queue, queue_url, properties)
    with Watcher(target.connection, target.names, timeout_s=timeout_s) as watcher:
        stats = watcher.collect(now_ms(), every_worker=every)
    if as_json:
        typer.echo(json_text(workers_json(stats)))
        return
    for line in workers_lines(stats):
        typer.echo(line)
    if stats.workers:
        typer.echo()
        out = console()
        out.print(workers_table(stats).table(out.width))
