"""`fairlane replay`: run again what ran.

Invariant: nothing is written before it was counted and, if it is more than one task, agreed to. Ctrl-C and Ctrl-Z act
between two transactions.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fairlane.cli import replay_view as view
from fairlane.cli.job_signals import STOPPED, job_signals
from fairlane.cli.letter_options import lane_topic, moment_ms
from fairlane.cli.options import (
    JsonOption,
    PropertyOption,
    QueueOption,
    QueueTarget,
    QueueUrlOption,
    TimeoutOption,
    queue_target,
)
from fairlane.monitor.rerun import new_rerun, plan_rerun, rerun_of, run_rerun
from fairlane.monitor.rerun_job import RerunFilter, RerunJob, RerunPlan
from fairlane.operator import user_and_host
from fairlane.topics import tracing_setup
from fairlane.topics.errors import UsageError


def replay(
    queue: QueueOption = "",
    lane: Annotated[str, typer.Option("--lane", metavar="LANE", help="Only of this lane: 3, p3, or its topic.")] = "",
    task_type: Annotated[str, typer.Option("--type", metavar="TYPE", help="Only tasks of this type.")] = "",
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Only enqueued since: 2h ago, or 2026-11-24T05:00:00Z.")
    ] = "",
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="Only enqueued before: 2h ago, or a time.")] = "",
    where: Annotated[
        str, typer.Option("--where", metavar="CONDITION", help="Only these: '/amount >= 1000', 'header:tenant = acme'.")
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="All that the log still has.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="At most so many, the oldest.")] = 0,
    per_s: Annotated[float, typer.Option("--rate", metavar="N", min=0, help="At most so many a second; 0 is any.")] = 0,
    again: Annotated[
        bool, typer.Option("--again", help="Also what replays have written, and what this one ran before.")
    ] = False,
    resume: Annotated[str, typer.Option("--resume", metavar="JOB", help="Go on with a replay that ended early.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run again.")] = False,
    first: Annotated[int, typer.Option("--first", metavar="N", min=0, help="How many a dry run shows.")] = 10,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Run again what ran: tasks that lanes still have, as new tasks that name the old ones.

    Each is written once, in one transaction with the progress. Ctrl-C stops and says how to go on, Ctrl-Z pauses until
    `fg`. Dead letters are for `fairlane dlq replay`. Exit code 1: there was none, 130: it was stopped.
    """
    target = queue_target(queue, queue_url, properties)
    if resume:
        job = rerun_of(target.connection, target.names, resume, timeout_s=timeout_s)
    else:
        wanted = RerunFilter(
            lane=lane_topic(target.names, lane),
            type=task_type,
            from_ms=moment_ms(since, "--from"),
            to_ms=moment_ms(until, "--to"),
            where=where,
        )
        _check(wanted, every=every)
        job = new_rerun(target.connection, target.names, wanted, again=again, limit=limit, timeout_s=timeout_s)
    keep_s = target.settings.keep_s
    plan = plan_rerun(target.connection, target.names, job, shown=first, keep_s=keep_s, timeout_s=timeout_s)
    if dry_run:
        view.print_plan(plan, as_json=as_json)
        return
    if not plan.count:
        view.print_nothing(plan, as_json=as_json)
        raise typer.Exit(1)
    if plan.count > 1 and not yes:
        _agree(plan)
    _run(target, job, plan, per_s or None, timeout_s, as_json=as_json)


def _run(
    target: QueueTarget, job: RerunJob, plan: RerunPlan, per_s: float | None, timeout_s: float, *, as_json: bool
) -> None:
    with tracing_setup.exported("fairlane-replay"), job_signals(as_json) as (control, progress):
        done = run_rerun(
            target.connection,
            target.names,
            job,
            who=user_and_host(),
            via="cli",
            per_s=per_s,
            control=control,
            on_progress=progress,
            plan=plan,
            keep_s=target.settings.keep_s,
            timeout_s=timeout_s,
        )
    view.print_report(done, target.names.queue, as_json=as_json)
    if not done.ended:
        raise typer.Exit(STOPPED)


def _check(wanted: RerunFilter, *, every: bool) -> None:
    if not (wanted.chooses or every):
        raise UsageError("no task is chosen", "Say --lane, --type, --from, … or --all")
    if wanted.to_ms and wanted.from_ms >= wanted.to_ms:
        raise UsageError("--from is not before --to", "Say the earlier time first: --from 2h --to 1h")


def _agree(plan: RerunPlan) -> None:
    typer.echo(view.summary(plan), err=True)
    if not sys.stdin.isatty():
        raise UsageError(f"to run {plan.count} tasks again has to be agreed to", "Say --yes")
    typer.confirm(f"Run these {plan.count:,} tasks again?", abort=True, err=True)
