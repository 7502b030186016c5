"""How `fairlane replay` shows what it would do, and what it did.

Invariant: it only shows; text from tasks goes through `visible` or `payload_text` first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import typer

from fairlane.cli.topics_view import counted
from fairlane.monitor.rerun import RerunReport
from fairlane.monitor.rerun_job import Gone, RerunPlan
from fairlane.monitor.show import json_text, moment, payload_text, visible

_KINDS_SHOWN: Final = 10
_SUMMARISED: Final = 20


def summary(plan: RerunPlan) -> str:
    """How many tasks of which types and lanes, over which time, and what is left out."""
    lines = [
        f"{number:>7,}  {visible(task_type)} in {visible(lane)}"
        for task_type, lane, number in plan.kinds[:_KINDS_SHOWN]
    ]
    if len(plan.kinds) > _KINDS_SHOWN:
        lines.append(f"{'…':>7}  and {len(plan.kinds) - _KINDS_SHOWN} more kinds")
    if plan.count:
        lines.append(f"Enqueued from {moment(plan.oldest_ms)} to {moment(plan.newest_ms)}.")
    return "\n".join([*lines, *_left_out(plan)])


def _left_out(plan: RerunPlan) -> Iterator[str]:
    if plan.before:
        yield f"Run again by this job before: {plan.before:,}."
    if plan.replays:
        yield f"Left out: {plan.replays:,} that replays have written; --again takes them."
    if plan.unsettled:
        yield f"Left out: {plan.unsettled:,} or more that have not run yet, or are behind one that has not."
    if plan.malformed:
        yield f"Left out: {plan.malformed:,} that are no task."
    yield from _gone(plan.gone)


def _gone(gone: Gone) -> Iterator[str]:
    if gone.whole_from_ms:
        yield f"From {moment(gone.whole_from_ms)} only: earlier records are gone (keep_s)."
    elif gone.partitions:
        empty = counted(gone.partitions, "partition")
        yield f"Earlier records of {empty} are gone (keep_s), and nothing is left there to tell since when."


def print_plan(plan: RerunPlan, *, as_json: bool) -> None:
    """What would run again."""
    if as_json:
        typer.echo(_json({"dry_run": True, **_plain(plan)}))
        return
    typer.echo(f"{counted(plan.count, 'task')} would run again; nothing was done. Job {plan.job.id}.")
    if text := summary(plan):
        typer.echo(text)
    for one in plan.first:
        typer.echo(f"\n{one.origin}, task {visible(one.task_id)}, {visible(one.type)}, {moment(one.at_ms)}")
        typer.echo("\n".join(f"  {line}" for line in payload_text(one.payload).split("\n")))


def print_nothing(plan: RerunPlan, *, as_json: bool) -> None:
    """Why there is nothing to do."""
    if as_json:
        typer.echo(_json(_plain(plan)))
        return
    typer.echo("No task that fits is left to run again." if plan.before else "No task that fits has run.", err=True)
    if text := summary(plan):
        typer.echo(text, err=True)


def _plain(plan: RerunPlan) -> dict[str, object]:
    return {
        "job": plan.job.id,
        "count": plan.count,
        "kinds": [{"type": kind, "lane": lane, "count": count} for kind, lane, count in plan.kinds],
        "oldest_ms": plan.oldest_ms,
        "newest_ms": plan.newest_ms,
        "before": plan.before,
        "replays": plan.replays,
        "unsettled": plan.unsettled,
        "malformed": plan.malformed,
        "gone": plan.gone,
        "first": [
            {
                "origin": one.origin,
                "at_ms": one.at_ms,
                "task_id": one.task_id,
                "type": one.type,
                "lane": one.lane,
                "payload": one.payload.decode("utf-8", "replace"),
            }
            for one in plan.first
        ],
    }


def print_report(report: RerunReport, queue: str, *, as_json: bool) -> None:
    """What runs again."""
    if as_json:
        typer.echo(_json(report))
        return
    for one in report.done[:_SUMMARISED]:
        where = f"{visible(one.to)}/{one.partition}/{one.offset}"
        typer.echo(f"Replayed: task {visible(one.old_id)} of {one.origin} as {one.task_id} in {where}")
    if report.count > _SUMMARISED:
        typer.echo(f"… and {report.count - _SUMMARISED:,} more")
    per_s = f" at {report.count / report.elapsed_s:,.0f}/s" if report.count > _SUMMARISED else ""
    before = f", {report.before + report.count:,} in all" if report.before else ""
    typer.echo(f"{counted(report.count, 'task')} replayed{per_s}{before}. Job {report.job}.")
    for line in _gone(report.gone):
        typer.echo(line)
    if not report.ended:
        typer.echo(f"Stopped. Go on with `fairlane replay --resume {report.job} --queue {queue}`", err=True)


def _json(value: object) -> str:
    return json_text(msgspec.json.encode(value))
