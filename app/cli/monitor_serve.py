"""`fairlane monitor serve`: fills a queue's store from its topics and answers from it, until it is told to end.

Invariant: SIGTERM and SIGINT end it between two transactions; whatever ends it, the next start goes on from there.
What serves HTTP is imported when it is to serve: it comes with `fairlane[monitor]`.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from fairlane import logs
from fairlane.cli.options import (
    LogFormatOption,
    LogLevelOption,
    PropertyOption,
    QueueOption,
    QueueTarget,
    QueueUrlOption,
    TimeoutOption,
    queue_target,
)
from fairlane.monitor.api.tokens import Tokens
from fairlane.monitor.show import json_text
from fairlane.monitor.store.counted import counted
from fairlane.monitor.store.database import Database
from fairlane.monitor.store.follower import Follower
from fairlane.monitor.store.keeping import Keep
from fairlane.operator import user_and_host
from fairlane.topics.errors import UsageError


def serve(
    queue: QueueOption = "",
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="FILE", show_default="~/.local/state/fairlane/QUEUE.db", help="Of its own."),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", show_default="127.0.0.1", help="The address to listen on.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="PORT", min=0, max=65_535, show_default="8090", help="0 is any that is free."),
    ] = None,
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="Read to the end that there is now, say what is there as JSON, and end.")
    ] = False,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 10.0,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Keep what a queue's topics say in a file and show it: a dashboard (/ui), an HTTP API (/api/v1); Ctrl-C ends it.

    It reads outside of any group, goes on where it stopped, and fills the file anew when it is gone. Several may run
    side by side, each with a file of its own. FAIRLANE_MONITOR_TOKENS says who may ask; without, only this machine.
    """
    target = queue_target(
        queue,
        queue_url,
        properties,
        monitor_store=store,
        monitor_host=host,
        monitor_port=port,
        log_format=log_format,
        log_level=log_level,
    )
    logs.configure(target.settings.log_format, target.settings.log_level)
    database = Database(store_path(target), target.names.queue)
    try:
        if catch_up:
            _catch_up(target, database, timeout_s)
        else:
            _serve(target, database, timeout_s)
    finally:
        database.close()


def _catch_up(target: QueueTarget, database: Database, timeout_s: float) -> None:
    follower = Follower(target.connection, target.names, database, keep_of(target), timeout_s=timeout_s)
    try:
        follower.run(_asked_to_end(), until_caught_up=True)
        typer.echo(json_text(counted(database.writer).to_json()))
    finally:
        follower.close()


def _serve(target: QueueTarget, database: Database, timeout_s: float) -> None:
    try:
        from fairlane.monitor.api.links import Links
        from fairlane.monitor.api.server import Where, serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("fairlane"):
            raise
        raise UsageError(
            f"the monitor serves with {error.name}, which is not installed", "pip install 'fairlane[monitor]'"
        ) from error
    settings = target.settings
    tokens = Tokens(settings.monitor_tokens)
    links = Links(settings.monitor_trace_url, settings.monitor_prometheus_url, settings.monitor_grafana_url)
    where = Where(settings.monitor_host, settings.monitor_port, tokens, user_and_host(), links)
    host = f"[{where.host}]" if ":" in where.host else where.host
    serve(
        target.connection,
        target.names,
        database,
        keep_of(target),
        where,
        started=lambda port: typer.echo(
            f"Serving queue {target.names.queue} at http://{host}:{port}/api/v1\nThe dashboard is http://{host}:{port}/ui/"
        ),
        statsd=settings.statsd,
        timeout_s=timeout_s,
    )


def store_path(target: QueueTarget) -> Path:
    """The file of a queue's store."""
    if target.settings.monitor_store:
        return Path(target.settings.monitor_store).expanduser()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "fairlane" / f"{target.names.queue}.db"


def keep_of(target: QueueTarget) -> Keep:
    """How much the store keeps."""
    return Keep(target.settings.monitor_keep_s, target.settings.monitor_max_mib << 20)


def _asked_to_end() -> threading.Event:
    asked = threading.Event()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return asked
