"""`fairlane enqueue`: one task from a shell, and its result if it is waited for.

Invariant: what is printed as enqueued is in Kafka. What cannot be a task (a payload that is no JSON) is refused before
anything is sent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from msgspec.structs import replace
from typer.core import TyperCommand

from fairlane import logs
from fairlane.app import Fairlane
from fairlane.cli.durations import parse_duration_s
from fairlane.cli.options import (
    JsonOption,
    LogFormatOption,
    PropertyOption,
    QueueOption,
    QueueUrlOption,
    queue_target,
)
from fairlane.producer import TaskHandle
from fairlane.task_options import Options
from fairlane.topics import tracing_setup
from fairlane.topics.errors import TaskFailed, UsageError
from fairlane.topics.events import UNREADABLE

WAIT_S: Final = "60"


EnqueueTimeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="TIME",
        show_default="$FAIRLANE_ENQUEUE_TIMEOUT_S, or 30s",
        help="How long Kafka may take to acknowledge it.",
    ),
]
# No log unless it is asked for here: what goes wrong is the one line that the command ends with.
OptionalLogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        show_default="nothing is logged",
        help="Log on stderr, and the least that is logged.",
    ),
]


class EnqueueCommand(TyperCommand):
    """A command whose `--wait` may stand alone: an option with a value that can be left out, which Typer has not."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a lone `--wait` its value."""
        filled: list[str] = []
        for argument, following in pairwise([*args, "-"]):
            filled.append(argument)
            if argument == "--wait" and following.startswith("-"):
                filled.append(WAIT_S)
        return super().parse_args(ctx, filled)


def enqueue(
    type: Annotated[str, typer.Option("--type", "-t", metavar="NAME", help="The task type.")],  # noqa: A002
    payload: Annotated[
        str,
        typer.Option(
            "--payload", "-p", metavar="JSON", help="The payload; @FILE reads a file, - reads standard input."
        ),
    ] = "{}",
    priority: Annotated[
        int | None,
        typer.Option("--priority", metavar="N", show_default="3", help="Level of the lane; the highest goes first."),
    ] = None,
    key: Annotated[str, typer.Option("--key", help="Tasks of one key are in one partition.")] = "",
    delay: Annotated[str, typer.Option("--delay", metavar="TIME", help="Run it no earlier: 5s, 1h30m, 2d.")] = "",
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="Do not start it any later.")] = "",
    task_id: Annotated[
        str, typer.Option("--id", metavar="ID", show_default="a fresh UUIDv7", help="The task's id.")
    ] = "",
    max_attempts: Annotated[
        int | None,
        typer.Option("--max-attempts", metavar="N", show_default="the handler's policy", help="Attempts in all."),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option("--wait", metavar="[TIME]", help=f"Wait for the result, {WAIT_S} seconds unless said otherwise."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Send the payload's bytes as they are, JSON or not.")] = False,
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout: EnqueueTimeout = None,
    as_json: JsonOption = False,
    log_format: LogFormatOption = None,
    log_level: OptionalLogLevel = None,
) -> None:
    """Enqueue a task: fairlane enqueue --queue shop --type email --payload '{"to": "ann@example.com"}'."""
    data = read_payload(payload, raw=raw)
    options: Options = {}
    if priority is not None:
        options["priority"] = priority
    if max_attempts is not None:
        options["max_attempts"] = max_attempts
    if key:
        options["key"] = key
    if task_id:
        options["id"] = task_id
    if delay:
        options["delay_s"] = parse_duration_s(delay, "--delay")
    if expires:
        options["expires_s"] = parse_duration_s(expires, "--expires")
    wait_s = None if wait is None else parse_duration_s(wait, "--wait")
    timeout_s = None if timeout is None else parse_duration_s(timeout, "--timeout")
    target = queue_target(queue, queue_url, properties, enqueue_timeout_s=timeout_s)
    if log_level:
        logs.configure(log_format or target.settings.log_format, log_level)
    with (
        tracing_setup.exported("fairlane-enqueue"),
        Fairlane(target.names.queue, settings=target.settings) as app,
    ):
        call = app.call(type, data, **options)
        if not raw:
            call = replace(call, content_type="application/json")
        handle = app.sender.enqueue(call.parcel())
        said = {"id": handle.id, "topic": handle.topic, "partition": handle.partition, "offset": handle.offset}
        if not as_json:
            typer.echo(f"Task enqueued: {handle.id}")
            sys.stdout.flush()
        if wait_s is not None:
            _wait(handle, wait_s, said, as_json=as_json)
        elif as_json:
            typer.echo(json.dumps(said))


def read_payload(given: str, *, raw: bool) -> bytes:
    """The payload's bytes, checked to be JSON unless they are raw."""
    if given == "-":
        data = sys.stdin.buffer.read()
    elif given.startswith("@"):
        try:
            data = Path(given[1:]).read_bytes()
        except OSError as error:
            raise UsageError(
                f"--payload {given} cannot be read: {error.strerror}", "Write @ and a file's path"
            ) from None
    else:
        data = given.encode("utf-8", "surrogateescape")
    if raw:
        return data
    data = data.strip() or b"{}"
    try:
        msgspec.json.decode(data)
    except UNREADABLE as error:
        raise UsageError(
            f"the payload is no JSON: {error}",
            """Quote it for the shell, as in --payload '{"to": "ann"}', or send bytes as they are with --raw""",
        ) from None
    return data


def _wait(handle: TaskHandle[Any], wait_s: float, said: Mapping[str, Any], *, as_json: bool) -> None:
    try:
        result = handle.result(wait_s)
    except TaskFailed as error:
        if as_json:
            failure = {"type": error.error_type, "message": error.error_message}
            typer.echo(json.dumps({**said, "state": error.state, "reason": error.reason, "error": failure}))
        else:
            typer.echo(f"Status: {error.state}")
        raise
    if as_json:
        typer.echo(json.dumps({**said, "state": "completed", "result": result}))
    else:
        typer.echo("Status: completed")
        typer.echo(f"Result: {result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)}")
