"""The options, and what is made of them, that the commands have in common by which operators ask things of workers.

Invariant: nothing is asked here.
"""

from __future__ import annotations

from typing import Annotated

import typer

from fairlane.cli.durations import parse_duration_s
from fairlane.cli.options import QueueTarget
from fairlane.monitor.control import Controller
from fairlane.operator import user_and_host
from fairlane.topics import rfc3339
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import UsageError

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why: shown, and kept in the audit.")]
TypeOption = Annotated[str, typer.Option("--type", metavar="TYPE", help="Only tasks of this type.")]
ForOption = Annotated[str, typer.Option("--for", metavar="TIME", help="It ends by itself after so long: 10m.")]
UntilOption = Annotated[str, typer.Option("--until", metavar="TIME", help="Or then: 2026-11-24T05:00:00Z.")]


def until_of(for_: str, until: str) -> int:
    """When it ends by itself, Unix ms; 0 where neither is given."""
    if for_ and until:
        raise UsageError("both --for and --until are given", "Give one of them")
    if for_:
        return now_ms() + max(1, round(parse_duration_s(for_, "--for") * 1_000))
    if not until:
        return 0
    at_ms = rfc3339.parse_ms(until)
    if at_ms is None:
        raise UsageError(f"--until {until!r} is no time", "Write 2026-11-24T05:00:00Z, or say --for 10m")
    return at_ms


def controller_of(target: QueueTarget, timeout_s: float) -> Controller:
    """Who asks, as the user of the command."""
    return Controller(
        target.connection, target.names, target.lanes, who=user_and_host(), via="cli", timeout_s=timeout_s
    )
