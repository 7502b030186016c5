"""`fairlane dlq replay` and `purge`: deal with dead letters, one or very many.

Invariant: nothing is sent or purged before it was counted and, if it is more than one named letter, agreed to. Ctrl-C
and Ctrl-Z act between two transactions.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import click
import msgspec
import typer

from fairlane.cli import dlq_job_view as view
from fairlane.cli.app_loading import load_app
from fairlane.cli.job_signals import STOPPED, job_signals
from fairlane.cli.letter_options import FilterOptions, takes_filter
from fairlane.cli.options import (
    JsonOption,
    PropertyOption,
    QueueOption,
    QueueTarget,
    QueueUrlOption,
    TimeoutOption,
    queue_target,
)
from fairlane.monitor.audit_log import replay_of
from fairlane.monitor.dlq import list_letters
from fairlane.monitor.edit import Edit
from fairlane.monitor.errors import LetterReplayed, LettersUnfit, LetterUnknown
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.purge import purge_letters
from fairlane.monitor.replay import How, new_job, plan_replay, run_replay
from fairlane.monitor.replay_job import LOOPS, Plan, ReplayJob, Validate
from fairlane.monitor.show import moment, visible
from fairlane.operator import user_and_host
from fairlane.topics import tracing_setup
from fairlane.topics.errors import InvalidPayload, UsageError
from fairlane.topics.events import UNREADABLE

LettersArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[LETTER]...", help="As `list` names them: partition/offset.")
]
EveryOption = Annotated[bool, typer.Option("--all", help="Every letter that the options leave.")]
LimitOption = Annotated[int, typer.Option("--limit", metavar="N", min=0, help="At most so many, the oldest; 0 is all.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@takes_filter
def replay(
    chosen: FilterOptions,
    letters: LettersArgument = None,
    queue: QueueOption = "",
    every: EveryOption = False,
    limit: LimitOption = 0,
    per_s: Annotated[float, typer.Option("--rate", metavar="N", min=0, help="At most so many a second; 0 is any.")] = 0,
    dry_run: DryRunOption = False,
    first: Annotated[int, typer.Option("--first", metavar="N", min=0, help="How many a dry run shows.")] = 10,
    payload: Annotated[
        str, typer.Option("--payload", metavar="JSON", help="Another payload, for one letter; @FILE reads it.")
    ] = "",
    edit: Annotated[bool, typer.Option("--edit", help="Change the payload of one letter in $EDITOR.")] = False,
    patch: Annotated[
        str, typer.Option("--merge-patch", metavar="JSON", help="Change all their payloads (RFC 7396); @FILE.")
    ] = "",
    app_name: Annotated[
        str, typer.Option("--app", metavar="MODULE:APP", help="Check the payloads by its handlers' types.")
    ] = "",
    skip_unfit: Annotated[bool, typer.Option("--skip-unfit", help="Leave out payloads that would not do.")] = False,
    loops: Annotated[
        int, typer.Option("--max-replays", metavar="N", min=1, help="Leave out tasks put back so often.")
    ] = LOOPS,
    force: Annotated[bool, typer.Option("--force", help="However often they were put back.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also those that were replayed already.")] = False,
    resume: Annotated[str, typer.Option("--resume", metavar="JOB", help="Go on with a replay that ended early.")] = "",
    yes: YesOption = False,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Put dead letters back into the lanes they came from: as they were or edited, their attempts from the start.

    Each goes back in one transaction with a record of it in the audit, and once unless --again is said. Ctrl-C stops
    and says how to go on, Ctrl-Z pauses until `fg`. Exit code 1: none was sent, 130: it was stopped.
    """
    target = queue_target(queue, queue_url, properties)
    validate = _validator(app_name) if app_name else None
    if resume:
        job = replay_of(target.connection, target.names, resume, timeout_s=timeout_s)
    else:
        wanted = chosen.filter(target.names, letters or (), replayed=again)
        if not (wanted.chooses or every):
            raise UsageError("no letter is chosen", "Name letters, or say --task-id, --type, --reason, … or --all")
        change = _edit(target, wanted, payload, patch, edit, timeout_s)
        how = How(edit=change, again=again, loops=0 if force else loops, limit=limit, skip_unfit=skip_unfit)
        job = new_job(target.connection, target.names, wanted, timeout_s=timeout_s, **how)
    plan = plan_replay(target.connection, target.names, job, validate=validate, shown=first, timeout_s=timeout_s)
    if dry_run:
        view.print_plan(plan, as_json=as_json)
        return
    if plan.unfit and not job.skip_unfit:
        raise LettersUnfit(plan.unfit, plan.problems[:3])
    if not plan.count:
        _nothing(target, plan, timeout_s)
    if payload or edit:
        _only_one(plan)
    if plan.count > 1 and not yes:
        _agree("replay", plan)
    _run(target, job, validate, per_s or None, timeout_s, as_json=as_json)


def _run(
    target: QueueTarget,
    job: ReplayJob,
    validate: Validate | None,
    per_s: float | None,
    timeout_s: float,
    *,
    as_json: bool,
) -> None:
    with tracing_setup.exported("fairlane-replay"), job_signals(as_json) as (control, progress):
        done = run_replay(
            target.connection,
            target.names,
            job,
            who=user_and_host(),
            via="cli",
            per_s=per_s,
            control=control,
            on_progress=progress,
            validate=validate,
            timeout_s=timeout_s,
        )
    view.print_report(done, target.names.queue, as_json=as_json)
    if not done.ended:
        raise typer.Exit(STOPPED)
    if not done.count:
        raise typer.Exit(1)


@takes_filter
def purge(
    chosen: FilterOptions,
    letters: LettersArgument = None,
    queue: QueueOption = "",
    every: EveryOption = False,
    replayed: Annotated[bool, typer.Option("--replayed", help="Those that were replayed already too.")] = False,
    limit: LimitOption = 0,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Give dead letters up for good: they are not listed or replayed any more, and Kafka deletes them when it can.

    What it deletes goes from the beginning of a partition: a purged letter behind one that is not stays on disk.
    """
    target = queue_target(queue, queue_url, properties)
    wanted = chosen.filter(target.names, letters or (), replayed=replayed)
    if not (wanted.chooses or every):
        raise UsageError("no letter is chosen", "Name letters, or say --task-id, --type, --reason, … or --all")
    how = How(again=replayed, loops=0, limit=limit)
    job = new_job(target.connection, target.names, wanted, timeout_s=timeout_s, **how)
    plan = plan_replay(target.connection, target.names, job, timeout_s=timeout_s)
    if dry_run:
        view.print_plan(plan, as_json=as_json)
        return
    if not plan.count:
        _nothing(target, plan, timeout_s)
    if not yes:
        _agree("purge", plan)
    done = purge_letters(target.connection, target.names, job, who=user_and_host(), via="cli", timeout_s=timeout_s)
    view.print_purged(done, as_json=as_json)


def _edit(
    target: QueueTarget, wanted: LetterFilter, payload: str, patch: str, in_editor: bool, timeout_s: float
) -> Edit | None:
    if (bool(payload), bool(patch), in_editor).count(True) > 1:
        raise UsageError("one letter has one new payload", "Say one of --payload, --edit and --merge-patch")
    if patch:
        return Edit("merge", _text(patch, "--merge-patch"))
    if payload:
        return Edit("payload", _text(payload, "--payload"))
    if not in_editor:
        return None
    found = list_letters(target.connection, target.names, wanted, limit=2, timeout_s=timeout_s).letters
    if len(found) != 1:
        raise UsageError("--edit is for one letter", "Name it, or change many by --merge-patch")
    before = _editable(found[0].letter.payload)
    after = click.edit(before, extension=".json", require_save=True)
    if after is None or after == before:
        raise UsageError("the payload was not changed", "Nothing was sent. Without --edit it goes back as it was")
    return Edit("payload", after.rstrip("\n"))


def _editable(payload: bytes) -> str:
    try:
        return msgspec.json.format(payload, indent=2).decode() + "\n"
    except UNREADABLE:
        pass
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise UsageError("the payload is no text", "Give another one by --payload @FILE") from None


def _text(value: str, option: str) -> str:
    if not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {value}: {error}", "Name a file of text that can be read") from None


def _validator(name: str) -> Validate:
    """What the handlers of an app say of a payload."""
    handlers = load_app(name).handlers

    def validate(task_type: str, payload: bytes) -> str:
        handler = handlers.get(task_type)
        if handler is None:
            return f"{name} has no handler of type {task_type!r}"
        try:
            handler.signature.load(payload)
        except InvalidPayload as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a validator of the user's may raise anything
            return f"{type(error).__name__}: {error}"
        return ""

    return validate


def _only_one(plan: Plan) -> None:
    if plan.count != 1:
        raise UsageError(
            f"a payload is for one letter, and these are {plan.count}", "Name it, or change many by --merge-patch"
        )


def _nothing(target: QueueTarget, plan: Plan, timeout_s: float) -> NoReturn:
    """Says why there is nothing to do."""
    wanted = plan.job.filter
    if plan.looping:
        raise UsageError(
            f"{plan.looping} of the letters died again after {plan.job.loops} replays or more",
            "Look what they die of (`fairlane dlq groups`), mend it, and say --force",
        )
    if not plan.dealt:
        what = " ".join(sorted(wanted.places)) or (f"of task {wanted.task_id}" if wanted.task_id else "")
        raise LetterUnknown(target.names.queue, what)
    hidden = msgspec.structs.replace(wanted, replayed=True)
    found = list_letters(target.connection, target.names, hidden, limit=1, timeout_s=timeout_s).letters
    if not found:
        raise LetterUnknown(target.names.queue, "that was not purged")
    newest = found[0]
    who, when = (newest.replayed.who, moment(newest.replayed.at_ms)) if newest.replayed else ("", "")
    raise LetterReplayed(newest.letter.place, visible(who), when, plan.dealt)


def _agree(verb: str, plan: Plan) -> None:
    typer.echo(view.summary(plan), err=True)
    if not sys.stdin.isatty():
        raise UsageError(f"to {verb} {plan.count} letters has to be agreed to", "Say --yes")
    typer.confirm(f"{verb.capitalize()} these {plan.count:,} letters?", abort=True, err=True)
