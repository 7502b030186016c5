"""How `fairlane dlq replay` and `purge` show what they would do, are doing, and did.

Invariant: it only shows; text from letters goes through `visible` or `payload_text` first.
"""

from __future__ import annotations

from typing import Final

import msgspec
import typer

from fairlane.cli.topics_view import counted
from fairlane.monitor.purge import Purged
from fairlane.monitor.replay import Report
from fairlane.monitor.replay_job import Plan
from fairlane.monitor.show import json_text, payload_text, visible

_KINDS_SHOWN: Final = 5
_SUMMARISED: Final = 20


def summary(plan: Plan) -> str:
    """How many letters of which types and reasons, and what is left out."""
    lines = [
        f"{number:>7,}  {visible(task_type or 'no type')} ({visible(reason or '-')})"
        for task_type, reason, number in plan.kinds[:_KINDS_SHOWN]
    ]
    if len(plan.kinds) > _KINDS_SHOWN:
        lines.append(f"{'…':>7}  and {len(plan.kinds) - _KINDS_SHOWN} more kinds")
    if plan.looping:
        lines.append(f"Left out: {plan.looping:,} that died again after {plan.job.loops} replays; --force takes them.")
    if plan.unfit:
        lines.append(f"Left out: {plan.unfit:,} that would not do.")
        lines += [f"  {visible(problem)}" for problem in plan.problems]
    return "\n".join(lines)


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """What would be done."""
    if as_json:
        typer.echo(_json({"dry_run": True, "job": plan.job.id, **_plain_plan(plan)}))
        return
    typer.echo(f"{counted(plan.count, 'letter')} would go; nothing was done. Job {plan.job.id}.")
    if text := summary(plan):
        typer.echo(text)
    for lane, number in plan.lanes.items():
        typer.echo(f"To {visible(lane)}: {number:,}")
    if plan.dealt:
        typer.echo(f"Dealt with before: {plan.dealt:,}")
    for one in plan.first:
        typer.echo(f"\n{one.letter.place} to {visible(one.to)}, task {visible(one.letter.task_id)}")
        shown = payload_text(one.letter.payload)
        typer.echo("\n".join(f"  {line}" for line in shown.split("\n")))
        if one.edited:
            typer.echo("becomes")
            typer.echo("\n".join(f"  {line}" for line in payload_text(one.payload).split("\n")))


def _plain_plan(plan: Plan) -> dict[str, object]:
    return {
        "count": plan.count,
        "kinds": [{"type": kind, "reason": reason, "count": count} for kind, reason, count in plan.kinds],
        "lanes": plan.lanes,
        "dealt": plan.dealt,
        "looping": plan.looping,
        "unfit": plan.unfit,
        "problems": plan.problems,
        "first": [
            {
                "letter": one.letter.place,
                "task_id": one.letter.task_id,
                "to": one.to,
                "before": one.letter.payload.decode("utf-8", "replace"),
                "after": one.payload.decode("utf-8", "replace"),
            }
            for one in plan.first
        ],
    }


def print_report(report: Report, queue: str, *, as_json: bool) -> None:
    """What was put back."""
    if as_json:
        typer.echo(_json(report))
        return
    for one in report.done[:_SUMMARISED]:
        typer.echo(
            f"Replayed: {one.letter} to {visible(one.to)}/{one.partition}/{one.offset}, task {visible(one.task_id)}"
        )
    if report.count > _SUMMARISED:
        typer.echo(f"… and {report.count - _SUMMARISED:,} more")
    for number, why in (
        (report.looping, "put back too often before: --force takes them"),
        (report.unfit, "would not do"),
    ):
        if number:
            typer.echo(f"Left out: {number:,}, {why}.")
    if report.count != 1:
        per_s = f" at {report.count / report.elapsed_s:,.0f}/s" if report.count > _SUMMARISED else ""
        typer.echo(f"{counted(report.count, 'letter')} replayed{per_s}.")
    if report.count > _SUMMARISED:
        typer.echo(f"What becomes of them: `fairlane dlq replayed --job {report.job} --queue {queue}`")
    if not report.ended:
        typer.echo(f"Stopped. Go on with `fairlane dlq replay --resume {report.job} --queue {queue}`", err=True)


def print_purged(done: Purged, *, as_json: bool) -> None:
    """What was purged."""
    if as_json:
        typer.echo(_json(done))
        return
    typer.echo(f"{counted(done.count, 'letter')} purged.")
    if done.refused:
        typer.echo(f"Kafka deleted none of it, so it stays on disk, hidden: {visible(done.refused)}")
    elif done.waiting:
        typer.echo(
            f"{done.waiting:,} purged ones lie behind letters that are not, and stay on disk until those go too."
        )


def _json(value: object) -> str:
    return json_text(msgspec.json.encode(value))
