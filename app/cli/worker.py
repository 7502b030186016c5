"""`fairlane worker`: run the tasks of a queue until told to stop."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from fairlane import logs
from fairlane.cli.app_loading import load_app
from fairlane.cli.options import (
    LogFormatOption,
    LogLevelOption,
    PropertyOption,
    QueueOption,
    QueueUrlOption,
    parse_properties,
)
from fairlane.settings import Settings
from fairlane.topics import tracing_setup
from fairlane.topics.connection import parse_queue_url
from fairlane.topics.errors import FairlaneError, UsageError


def worker(
    app: Annotated[str, typer.Argument(metavar="MODULE:APP", help="Where the app is, such as shop.tasks:app.")],
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, metavar="N", help="Tasks that run at once.")
    ] = None,
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    grace_s: Annotated[
        float | None, typer.Option("--grace", min=0, metavar="SECONDS", help="How long running tasks may end.")
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The worker's name; host and pid if not.")] = "",
    instance_id: Annotated[
        str | None,
        typer.Option("--instance-id", metavar="ID", help="Static membership, for a supervised worker."),
    ] = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Run the tasks of an app's queue. Ctrl-C or SIGTERM ends it in good order; a second one ends it at once."""
    said = Settings().with_options(log_format=log_format, log_level=log_level)
    # Before the app's module is imported: what it logs is logged likewise.
    logs.configure(said.log_format, said.log_level)
    tracing_setup.configure()
    from fairlane.working import worker_of

    found = load_app(app)
    named = queue or (parse_queue_url(queue_url)[1] if queue_url else "")
    if named and named != found.queue:
        raise UsageError(f"{app} works on queue {found.queue!r}, not on {named!r}", f"Say --queue {found.queue}")
    settings = found.settings.with_options(
        queue_url=queue_url or None,
        kafka=parse_properties(properties or ()) or None,
        workers=workers,
        grace_s=grace_s,
        instance_id=instance_id,
    )
    found.use_settings(settings)
    working = worker_of(found, **({"worker": name} if name else {}))

    async def run() -> int:
        working.handle_signals()
        return await working.run()

    try:
        code = asyncio.run(run())
    except FairlaneError:
        raise
    except Exception as error:
        # The worker has logged what failed, with its traceback.
        if os.environ.get("FAIRLANE_DEBUG"):
            raise
        typer.secho(f"fairlane: the worker failed: {type(error).__name__}: {error}", err=True, fg=typer.colors.RED)
        code = 1
    finally:
        tracing_setup.shutdown()
    raise typer.Exit(code)
