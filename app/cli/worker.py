"""`fairlane worker`: run the tasks of a queue until told to stop, in one process or in several that are supervised.

Invariant: the workers of a pool are started by this same command, with the options that the pool was given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from fairlane import logs
from fairlane.app import Fairlane
from fairlane.between import least_of, most_of
from fairlane.cli.app_loading import load_app
from fairlane.cli.options import (
    LogFormatOption,
    LogLevelOption,
    PropertyOption,
    QueueOption,
    QueueUrlOption,
    many,
    parse_properties,
)
from fairlane.consumer import event_loop
from fairlane.consumer.config import default_worker_name
from fairlane.consumer.scaling import ScalingPolicy
from fairlane.consumer.uncaught import log_uncaught
from fairlane.pool_size import PoolSize
from fairlane.settings import Settings
from fairlane.supervised import Line
from fairlane.supervisor import Supervisor
from fairlane.threads_left import leave_threads_behind
from fairlane.topics import tracing_setup
from fairlane.topics.connection import parse_queue_url
from fairlane.topics.errors import FairlaneError, UsageError
from fairlane.topics.metrics.telling import told
from fairlane.topics.secrets import redacted


def worker(
    app: Annotated[str, typer.Argument(metavar="MODULE:APP", help="Where the app is, such as shop.tasks:app.")],
    workers: Annotated[
        str | None,
        typer.Option("--workers", "-w", metavar="N", callback=many, help="Tasks that run at once; 4..200 adapts."),
    ] = None,
    processes: Annotated[
        str | None,
        typer.Option("--processes", metavar="N", callback=many, help="Worker processes, supervised; 2..8 adapts."),
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
        typer.Option("--instance-id", metavar="ID", help="Static membership, for a worker that comes back soon."),
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            "--health-port", min=0, max=65_535, metavar="PORT", help="Answer /livez, /readyz and /metrics there."
        ),
    ] = None,
    health_host: Annotated[
        str | None,
        typer.Option("--health-host", metavar="HOST", show_default="127.0.0.1", help="The address of the health port."),
    ] = None,
    only_check: Annotated[
        bool, typer.Option("--check", help="Look at the app, its settings and its queue, say what is found, and end.")
    ] = False,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    line: Annotated[int | None, typer.Option("--supervised", hidden=True)] = None,
) -> None:
    """Run the tasks of an app's queue. Ctrl-C or SIGTERM ends it in good order; a second one ends it at once.

    With --processes N, N workers NAME-0, NAME-1, … run them; one that dies is started again. With N..M there are N to
    M of them, by the load. A pool with a --name keeps its partitions when it is back within the session timeout.
    """
    supervisor = Line(line) if line is not None else None
    said = Settings().with_options(log_format=log_format, log_level=log_level)
    # Before the app's module is imported: what it logs is logged likewise.
    logs.configure(said.log_format, said.log_level)
    log_uncaught()
    tracing_setup.configure()
    found = load_app(app)
    named = queue or (parse_queue_url(queue_url)[1] if queue_url else "")
    if named and named != found.queue:
        raise UsageError(f"{app} works on queue {found.queue!r}, not on {named!r}", f"Say --queue {found.queue}")
    settings = found.settings.with_options(
        queue_url=queue_url or None,
        kafka=parse_properties(properties or ()) or None,
        workers=workers,
        processes=processes,
        grace_s=grace_s,
        instance_id=instance_id,
        health_port=health_port,
        health_host=health_host,
    )
    if only_check:
        _check(app, found, settings)
        return
    if most_of(settings.processes) > 1 and supervisor is None:
        given = {"--workers": workers, "--queue": queue or None, "--queue-url": queue_url or None, "--grace": grace_s}
        given |= {"--log-format": log_format, "--log-level": log_level}
        code = _pool(app, settings, name, given, properties or ())
    else:
        found.use_settings(settings)
        code = _work(found, name, supervisor)
    raise typer.Exit(code)


def _check(target: str, app: Fairlane, settings: Settings) -> None:
    from fairlane.cli.worker_check import check
    from fairlane.working import worker_config

    app.use_settings(settings)
    check(target, app, worker_config(app.names, settings, lanes=app.lanes))


def _work(app: Fairlane, name: str, supervisor: Line | None) -> int:
    """One worker, in this process; returns the exit code."""
    from fairlane.working import process_worker_of

    working = process_worker_of(app, **({"worker": name} if name else {}))

    async def run() -> int:
        working.handle_signals()
        if supervisor is not None:
            supervisor.attach(working)
        return await working.run()

    try:
        told_to = {"statsd": app.settings.statsd, "instance": working.config.worker}
        with told(working.measured, service_name=tracing_setup.DEFAULT_SERVICE_NAME, **told_to):
            code = event_loop.run(run())
        leave_threads_behind(code)
        return code
    except FairlaneError:
        raise
    except Exception as error:
        # The worker has logged what failed, with its traceback.
        if os.environ.get("FAIRLANE_DEBUG"):
            raise
        leave_threads_behind(1)
        text = redacted(f"fairlane: the worker failed: {type(error).__name__}: {error}")
        typer.secho(text, err=True, fg=typer.colors.RED)
        return 1
    finally:
        tracing_setup.shutdown()


def _pool(app: str, settings: Settings, name: str, given: Mapping[str, object], properties: Sequence[str]) -> int:
    """Several workers, each by this command with the options that were given; returns the exit code."""
    tracing_setup.shutdown()
    pool = name or default_worker_name()
    least, most = least_of(settings.processes), most_of(settings.processes)
    names = [f"{pool}-{slot}" for slot in range(most)]
    # -P: nothing in the current directory may pass for fairlane; `load_app` makes it importable after that.
    command = [sys.executable, "-P", "-m", "fairlane", "worker", app, "--processes", "1"]
    command += [part for option, value in given.items() if value is not None for part in (option, str(value))]
    command += [part for each in properties for part in ("-X", each)]
    # A member that comes back keeps its partitions, and one that does not holds them back from others for as long as
    # a session may be silent: only a pool whose name a later start will have again is worth that, and of it only those
    # that are never ended before it.
    static = settings.instance_id or name

    def command_of(slot: int, line: int) -> list[str]:
        instance = ["--instance-id", f"{static}-{slot}"] if static and slot < least else []
        health = []
        if settings.health_port is not None:
            # Each answers at a port of its own.
            port = settings.health_port + slot if settings.health_port else 0
            health = ["--health-port", str(port), "--health-host", settings.health_host]
        return [*command, "--name", names[slot], *instance, *health, "--supervised", str(line)]

    policy = ScalingPolicy(least, most, settings.scale_age_s, settings.scale_idle_s)
    size = PoolSize(pool, policy) if most > least else None
    return Supervisor(names, command_of, grace_s=settings.grace_s, size=size, log_format=settings.log_format).run()
