"""`fairlane audit`: who did what to a queue.

Invariant: it only reads; what others wrote into the audit never acts on the terminal.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from fairlane.cli.letter_options import moment_ms
from fairlane.cli.options import JsonOption, PropertyOption, QueueOption, QueueUrlOption, TimeoutOption, queue_target
from fairlane.cli.topics_view import console
from fairlane.monitor.audit_log import AuditFilter, read_audit
from fairlane.monitor.section import Column, Section
from fairlane.monitor.show import json_text, moment, visible
from fairlane.topics.audit import AuditRecord


def audit(
    queue: QueueOption = "",
    action: Annotated[str, typer.Option("--action", metavar="ACTION", help="Only this: replay, purge, …")] = "",
    who: Annotated[str, typer.Option("--who", metavar="WHO", help="Only what they did.")] = "",
    job: Annotated[str, typer.Option("--job", metavar="JOB", help="Only this job, with each of its letters.")] = "",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="Only since: 2h ago, or a time.")] = "",
    letters: Annotated[bool, typer.Option("--letters", help="Every letter of every job too.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 50,
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Say who did what to a queue, the newest first: replays, purges, and what was asked of its workers."""
    target = queue_target(queue, queue_url, properties)
    wanted = AuditFilter(
        action=action, who=who, job=job, since_ms=moment_ms(since, "--since"), letters=letters or bool(job)
    )
    found = read_audit(target.connection, target.names, wanted, limit=limit, timeout_s=timeout_s)
    if as_json:
        typer.echo(json_text(msgspec.json.encode(found)))
        return
    if not found:
        typer.echo("Nothing was done that fits.")
        return
    out = console()
    rows = tuple(tuple(visible(text) or "-" for text in _row(record)) for record in found)
    out.print(Section(_COLUMNS, rows).table(out.width))


_COLUMNS = (
    Column("When", right=False, least=20),
    Column("Who", right=False, least=8),
    Column("Via", right=False, rank=3),
    Column("Action", right=False),
    Column("What", right=False, least=12, rank=2),
    Column("Count"),
    Column("Job", right=False),
    Column("Filter", right=False, rank=4, least=12),
)


def _row(record: AuditRecord) -> tuple[str, ...]:
    action = f"{record.action} {record.phase}".strip() + (", edited" if record.edited else "")
    what = record.letter or record.target
    if record.to:
        what += f" to {record.to}"
    return (
        moment(record.at_ms), record.who, record.via, action, what, f"{record.count:,}" if record.phase else "",
        record.job, record.filter,
    )  # fmt: skip
