"""`fairlane dlq`: list, show and replay the dead letters of a queue.

Invariant: nothing is put back before it was counted and, if it is more than one named letter, agreed to; what others
wrote into a letter never acts on the terminal.
"""

from __future__ import annotations

import getpass
import re
import socket
import sys
from dataclasses import replace
from typing import Annotated, Final, NoReturn

import typer

from fairlane.cli import dlq_view as view
from fairlane.cli.options import (
    JsonOption,
    PropertyOption,
    QueueOption,
    QueueTarget,
    QueueUrlOption,
    TimeoutOption,
    queue_target,
)
from fairlane.monitor.dlq import LetterFilter, Listing, list_letters
from fairlane.monitor.errors import LetterReplayed, LetterUnknown
from fairlane.monitor.replay import Replays, replay_letters
from fairlane.monitor.show import moment, visible
from fairlane.topics import tracing_setup
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import UsageError

app = typer.Typer(name="dlq", help="The dead letters of a queue.", no_args_is_help=True)

REPLAYED_AT_ONCE: Final = 10_000
_NUMBER: Final = re.compile(r"[0-9]{1,19}")

LetterArgument = Annotated[
    str, typer.Argument(metavar="[LETTER]", help="As `list` names it: partition/offset.", show_default=False)
]
LettersArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[LETTER]...", help="As `list` names them: partition/offset.")
]
TaskOption = Annotated[str, typer.Option("--task-id", metavar="ID", help="Only letters of this task.")]
TypeOption = Annotated[str, typer.Option("--type", metavar="TYPE", help="Only letters of this task type.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="REASON", help="Only letters of this reason, such as max_attempts.")
]


@app.command("list")
def list_(
    queue: QueueOption = "",
    task_id: TaskOption = "",
    task_type: TypeOption = "",
    reason: ReasonOption = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 50,
    replayed: Annotated[bool, typer.Option("--all", help="Those that were replayed already too.")] = False,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the newest first. Those that were replayed are hidden."""
    target = queue_target(queue, queue_url, properties)
    wanted = LetterFilter(task_id=task_id, type=task_type, reason=reason, replayed=replayed)
    listing = list_letters(target.connection, target.names, wanted, limit=limit, timeout_s=timeout_s)
    if as_json:
        typer.echo(view.listing_json(listing))
        return
    view.print_listing(listing, now_ms())


@app.command()
def show(
    letter: LetterArgument = "",
    queue: QueueOption = "",
    task_id: TaskOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Show all of one dead letter: why, payload, headers, traceback. Of a task with several, the newest.

    Exit code 5: there is no such letter.
    """
    if not letter and not task_id:
        raise UsageError("no letter is named", "Say which: partition/offset, or --task-id ID")
    target = queue_target(queue, queue_url, properties)
    wanted = LetterFilter(places=_places(target, [letter] if letter else []), task_id=task_id, replayed=True)
    found = list_letters(target.connection, target.names, wanted, limit=1, timeout_s=timeout_s).letters
    if not found:
        raise LetterUnknown(target.names.queue, letter or f"of task {task_id}")
    if as_json:
        typer.echo(view.letter_json(found[0]))
        return
    view.print_letter(found[0], now_ms())


@app.command()
def replay(
    letters: LettersArgument = None,
    queue: QueueOption = "",
    task_id: TaskOption = "",
    task_type: TypeOption = "",
    reason: ReasonOption = "",
    every: Annotated[bool, typer.Option("--all", help="Every letter that the options leave.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="At most so many, the newest ones.")
    ] = REPLAYED_AT_ONCE,
    again: Annotated[bool, typer.Option("--again", help="Also those that were replayed already.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Put dead letters back into the lanes they came from: as they were, with their attempts from the start.

    Each goes back in one transaction with a record of it in the audit, and once unless --again is said.
    """
    if not (letters or task_id or task_type or reason or every):
        raise UsageError("no letter is chosen", "Name letters, or say --task-id, --type, --reason or --all")
    target = queue_target(queue, queue_url, properties)
    wanted = LetterFilter(
        places=_places(target, letters or []), task_id=task_id, type=task_type, reason=reason, replayed=again
    )
    listing = list_letters(target.connection, target.names, wanted, limit=limit, timeout_s=timeout_s)
    if not listing.letters:
        _nothing(target, wanted, listing, timeout_s)
    if len(listing.letters) > 1 and not yes:
        _agree(listing)
    with tracing_setup.exported("fairlane-replay"):
        done = replay_letters(
            target.connection,
            target.names,
            # The oldest first: they stand in their lanes in the order in which they died.
            [listed.letter for listed in reversed(listing.letters)],
            who=f"{_user()}@{socket.gethostname()}",
            now_ms=now_ms(),
            again=again,
            timeout_s=timeout_s,
        )
    _tell(done, listing, as_json)


def _places(target: QueueTarget, letters: list[str]) -> frozenset[str]:
    """Full names of letters: `3/17` is `shop.dlq/3/17`."""
    places = set()
    for letter in letters:
        parts = letter.removeprefix(f"{target.names.dlq}/").split("/")
        if len(parts) != 2 or not all(map(_NUMBER.fullmatch, parts)):
            raise UsageError(f"{letter!r} is no letter of queue {target.names.queue!r}", "Say partition/offset: 3/17")
        places.add(f"{target.names.dlq}/{int(parts[0])}/{int(parts[1])}")
    return frozenset(places)


def _nothing(target: QueueTarget, wanted: LetterFilter, listing: Listing, timeout_s: float) -> NoReturn:
    """Says why there is nothing to replay."""
    if not listing.hidden:
        what = " ".join(sorted(wanted.places)) or (f"of task {wanted.task_id}" if wanted.task_id else "")
        raise LetterUnknown(target.names.queue, what)
    hidden = replace(wanted, replayed=True)
    newest = list_letters(target.connection, target.names, hidden, limit=1, timeout_s=timeout_s).letters[0]
    who, when = (newest.replayed.who, moment(newest.replayed.at_ms)) if newest.replayed else ("", "")
    raise LetterReplayed(newest.letter.place, visible(who), when, listing.hidden)


def _agree(listing: Listing) -> None:
    typer.echo(view.summary(listing), err=True)
    if not sys.stdin.isatty():
        raise UsageError(f"replaying {len(listing.letters)} letters has to be agreed to", "Say --yes")
    typer.confirm(f"Replay these {len(listing.letters):,} letters?", abort=True, err=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _tell(done: Replays, listing: Listing, as_json: bool) -> None:
    if as_json:
        typer.echo(view.replays_json(done))
    else:
        view.print_replays(done, listing)
    if not done.done:
        raise typer.Exit(1)
