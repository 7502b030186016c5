"""The `fairlane` command: one Typer app, one module a command group, and the one place where errors become exit codes.

Invariant: a FairlaneError is one readable line and its exit code; a traceback only with --debug. No secret of Kafka's
is in either.
"""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType
from typing import Annotated

import typer

import fairlane
from fairlane.cli import control, dlq, dlq_replay, enqueue, kafka, monitor, orders, schedule, tasks, topics
from fairlane.cli.audit import audit
from fairlane.cli.demo import demo
from fairlane.cli.explain import explain
from fairlane.cli.health import health
from fairlane.cli.replay import replay
from fairlane.cli.status import status
from fairlane.cli.worker import worker
from fairlane.cli.workers import workers
from fairlane.topics.errors import FairlaneError
from fairlane.topics.secrets import redacted

app = typer.Typer(
    name="fairlane",
    help="A distributed task queue on Apache Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(kafka.app)
app.add_typer(topics.app)
app.command(cls=enqueue.EnqueueCommand)(enqueue.enqueue)
dlq.app.command()(dlq_replay.replay)
dlq.app.command()(dlq_replay.purge)
app.add_typer(dlq.app)
app.command()(replay)
app.command()(control.cancel)
app.command()(control.pause)
app.command()(control.resume)
app.command()(orders.weight)
app.command()(orders.kill)
app.command()(orders.demote)
app.add_typer(control.app)
app.add_typer(schedule.app)
app.command()(audit)
app.command()(demo)
app.command()(status)
app.command()(explain)
app.command()(worker)
app.command()(workers)
app.command()(health)
app.add_typer(monitor.app)
app.add_typer(tasks.app)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fairlane {fairlane.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    if debug:
        os.environ["FAIRLANE_DEBUG"] = "1"


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


def main() -> None:
    """Entry point of the console script."""
    try:
        try:
            app()
        finally:
            sys.excepthook = _show  # only now: Typer sets its own, which shows everything
    except FairlaneError as error:
        if os.environ.get("FAIRLANE_DEBUG"):
            raise
        typer.secho(redacted(f"fairlane: {error}"), err=True, fg=typer.colors.RED)
        sys.exit(error.exit_code)
