"""`fairlane monitor serve`: fills a queue's store from its topics, and goes on until it is told to end.

Invariant: SIGTERM and SIGINT end it between two transactions; whatever ends it, the next start goes on from there.
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
from fairlane.monitor.show import json_text
from fairlane.monitor.store.counted import counted
from fairlane.monitor.store.database import Database
from fairlane.monitor.store.follower import Follower
from fairlane.monitor.store.keeping import Keep


def serve(
    queue: QueueOption = "",
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="FILE", show_default="~/.local/state/fairlane/QUEUE.db", help="Of its own."),
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
    """Keep what a queue's topics say in a file, for whoever asks; Ctrl-C or SIGTERM ends it.

    It reads outside of any group, goes on where it stopped, and fills the file anew when it is gone. Several may run
    side by side, each with a file of its own.
    """
    target = queue_target(queue, queue_url, properties, monitor_store=store, log_format=log_format, log_level=log_level)
    logs.configure(target.settings.log_format, target.settings.log_level)
    database = Database(store_path(target), target.names.queue)
    follower = Follower(target.connection, target.names, database, keep_of(target), timeout_s=timeout_s)
    try:
        follower.run(_asked_to_end(), until_caught_up=catch_up)
        if catch_up:
            typer.echo(json_text(counted(database.writer).to_json()))
    finally:
        follower.close()
        database.close()


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
