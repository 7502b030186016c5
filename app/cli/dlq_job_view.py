"""How `fairlane dlq replay` and `purge` show what they would do, are doing, and did.

Invariant: it only shows; text from letters goes through `visible` or `payload_text` first. Progress goes to stderr.
"""

from __future__ import annotations

import sys
import time
from typing import Final

import msgspec
import typer

from fairlane.cli.topics_view import counted
from fairlane.monitor.purge import Purged
from fairlane.monitor.replay import Progress, Report
from fairlane.monitor.replay_job import Plan
from fairlane.monitor.show import duration, json_text, payload_text, visible

_KINDS_SHOWN: Final = 5
_SUMMARISED: Final = 20
_EVERY_S: Final = 5.0


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


class ProgressLine:
    """One line that is written over on a terminal; elsewhere a line now and then."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._terminal = sys.stderr.isatty()
        self._told_s = time.monotonic()
        self._open = False

    def __call__(self, progress: Progress) -> None:
        """Show how far the job is."""
        due = self._terminal or time.monotonic() - self._told_s >= _EVERY_S
        if not self._shown or not due or progress.total < 2:
            return
        self._told_s = time.monotonic()
        per_s = progress.done / progress.elapsed_s if progress.elapsed_s else 0.0
        left = duration((progress.total - progress.done) / per_s * 1_000) if per_s else "…"
        text = f"{progress.done:,} of {progress.total:,} replayed, {per_s:,.0f}/s, {left} left"
        if self._terminal:
            typer.echo(f"\r\x1b[K{text}", err=True, nl=False)
            self._open = True
        else:
            typer.echo(text, err=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        self.end()
        typer.echo(text, err=True)

    def end(self) -> None:
        """End the line that is written over."""
        if self._open:
            typer.echo(err=True)
            self._open = False


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
