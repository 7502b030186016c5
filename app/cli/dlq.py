"""`fairlane dlq`: list, group and show the dead letters of a queue, and what became of those that were replayed.

Invariant: nothing here changes anything; what others wrote into a letter never acts on the terminal.
"""

from __future__ import annotations

from typing import Annotated

import typer

from fairlane.cli import dlq_view as view
from fairlane.cli.letter_options import FilterOptions, places, takes_filter
from fairlane.cli.options import JsonOption, PropertyOption, QueueOption, QueueUrlOption, TimeoutOption, queue_target
from fairlane.monitor.aftermath import aftermath
from fairlane.monitor.dlq import group_letters, list_letters
from fairlane.monitor.errors import LetterUnknown
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import UsageError

app = typer.Typer(name="dlq", help="The dead letters of a queue.", no_args_is_help=True)

LetterArgument = Annotated[
    str, typer.Argument(metavar="[LETTER]", help="As `list` names it: partition/offset.", show_default=False)
]
ReplayedOption = Annotated[bool, typer.Option("--all", help="Those that were replayed already too.")]


@app.command("list")
@takes_filter
def list_(
    chosen: FilterOptions,
    queue: QueueOption = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 50,
    replayed: ReplayedOption = False,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the newest first. Those that were replayed are hidden."""
    target = queue_target(queue, queue_url, properties)
    wanted = chosen.filter(target.names, replayed=replayed)
    listing = list_letters(target.connection, target.names, wanted, limit=limit, timeout_s=timeout_s)
    if as_json:
        typer.echo(view.listing_json(listing))
        return
    view.print_listing(listing, now_ms())


@app.command()
@takes_filter
def groups(
    chosen: FilterOptions,
    queue: QueueOption = "",
    replayed: ReplayedOption = False,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """What dead letters died of: by type, reason and error, the largest group first."""
    target = queue_target(queue, queue_url, properties)
    wanted = chosen.filter(target.names, replayed=replayed)
    found = group_letters(target.connection, target.names, wanted, timeout_s=timeout_s)
    if as_json:
        typer.echo(view.plain_json(found))
        return
    view.print_groups(found, target.names.queue, now_ms())


@app.command()
def show(
    letter: LetterArgument = "",
    queue: QueueOption = "",
    task_id: Annotated[str, typer.Option("--task-id", metavar="ID", help="The newest letter of this task.")] = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Show all of one dead letter: why, payload, headers, traceback, and what became of it if it was replayed.

    Exit code 5: there is no such letter.
    """
    if not letter and not task_id:
        raise UsageError("no letter is named", "Say which: partition/offset, or --task-id ID")
    target = queue_target(queue, queue_url, properties)
    wanted = LetterFilter(places=places(target.names, [letter] if letter else []), task_id=task_id, replayed=True)
    found = list_letters(target.connection, target.names, wanted, limit=1, timeout_s=timeout_s).letters
    if not found:
        raise LetterUnknown(target.names.queue, letter or f"of task {task_id}")
    this = LetterFilter(places=frozenset({found[0].letter.place}))
    became = aftermath(target.connection, target.names, this, timeout_s=timeout_s) if found[0].replayed else ()
    if as_json:
        typer.echo(view.letter_json(found[0], *became))
        return
    view.print_letter(found[0], now_ms(), *became)


@app.command()
@takes_filter
def replayed(
    chosen: FilterOptions,
    queue: QueueOption = "",
    job: Annotated[str, typer.Option("--job", metavar="JOB", help="Only what this job put back.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show at most so many.")] = 50,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """What became of dead letters that were replayed: how many completed, and which died again."""
    target = queue_target(queue, queue_url, properties)
    found = aftermath(target.connection, target.names, chosen.filter(target.names), job=job, timeout_s=timeout_s)
    if as_json:
        typer.echo(view.aftermath_json(found, limit))
        return
    view.print_aftermath(found, limit, now_ms())
