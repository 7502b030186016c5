"""`fairlane topics acls`: the rights on Kafka that each role needs, as a table, as commands, as JSON, or given at once.

Invariant: it shows and gives what `fairlane.topics.rights` declares and nothing else; nothing is given without a yes,
and nothing is ever taken away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fairlane.cli import topics_view as view
from fairlane.cli.options import (
    JsonOption,
    PropertyOption,
    QueueOption,
    QueueUrlOption,
    TimeoutOption,
    queue_target,
)
from fairlane.topics.access import Access, Grant
from fairlane.topics.errors import UsageError
from fairlane.topics.reader import DEFAULT_TIMEOUT_S
from fairlane.topics.rights import DOES, ROLES, Right, Role, commands, rights_of
from fairlane.topics.topology import Topology


def _to(role: Role) -> Any:
    return typer.Option(f"--{role}", metavar="PRINCIPAL", help=f"Who {DOES[role]}; again for more.")


def acls(
    producer: Annotated[list[str] | None, _to("producer")] = None,
    worker: Annotated[list[str] | None, _to("worker")] = None,
    monitor: Annotated[list[str] | None, _to("monitor")] = None,
    operator: Annotated[list[str] | None, _to("operator")] = None,
    admin: Annotated[list[str] | None, _to("admin")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Give them now, as who may Alter the cluster.")] = False,
    queue: QueueOption = "",
    queue_url: QueueUrlOption = "",
    properties: PropertyOption = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the least rights that each role needs on Kafka, and why; asks nothing of Kafka.

    With principals, such as --worker User:shop-worker, it prints the kafka-acls.sh commands that give them theirs; with
    --apply it gives them itself. A principal may have several roles.
    """
    target = queue_target(queue, queue_url, properties)
    topology = Topology.of(target.names, lanes=target.lanes, tiers=target.tiers)
    asked = dict(zip(ROLES, (producer, worker, monitor, operator, admin), strict=True))
    roles = [(role, _principal(name)) for role, names in asked.items() for name in names or ()]
    if apply and not roles:
        raise UsageError("--apply gives rights to nobody", "Name somebody, such as --worker User:shop-worker")
    if apply:
        grants = [(principal, right) for role, principal in roles for right in rights_of(role, topology)]
        _apply(Access(target.connection, timeout_s=timeout_s), list(dict.fromkeys(grants)), yes=yes, as_json=as_json)
    elif as_json:
        wanted = roles or [(role, "") for role in ROLES]
        view.print_json(
            [
                {"role": role, **({"principal": principal} if principal else {}), **_json(right)}
                for role, principal in wanted
                for right in rights_of(role, topology)
            ]
        )
    elif roles:
        for role, principal in roles:
            typer.echo(f"# {role}: {DOES[role]}")
            for command in commands(principal, rights_of(role, topology), target.connection.bootstrap):
                typer.echo(command)
    else:
        out = view.console()
        for role in ROLES:
            _show(out, role, rights_of(role, topology))


def rows(rights: Iterable[Right]) -> list[tuple[str, str, str]]:
    """Rights as lines of a table: what may be done, on what, and what for."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for right in rights:
        name = f"{right.name}*" if right.prefixed else right.name
        alike.setdefault((right.operation, right.resource, right.why), []).append(name)
    return [(operation, f"{kind} {' '.join(names)}", why) for (operation, kind, why), names in alike.items()]


def _show(out: Console, role: Role, rights: Iterable[Right]) -> None:
    table = Table(title=f"{role}: {DOES[role]}", title_justify="left", box=None, pad_edge=False)
    for column in ("May", "On", "For"):
        table.add_column(column, overflow="fold")
    for row in rows(rights):
        table.add_row(*row)
    out.print(table)
    out.print()


def _principal(name: str) -> str:
    """Kafka's form of it: a name alone is a user's."""
    if not name.strip() or name != name.strip():
        raise UsageError(f"{name!r} is no principal", "Write it as the broker knows it, such as User:shop-worker")
    return name if name.partition(":")[1] else f"User:{name}"


def _json(right: Right) -> dict[str, str]:
    return {
        "operation": right.operation,
        "resource": right.resource,
        "name": right.name,
        "pattern": "prefixed" if right.prefixed else "literal",
        "why": right.why,
    }


def _apply(access: Access, grants: list[Grant], *, yes: bool, as_json: bool) -> None:
    if as_json and not yes:
        raise UsageError("--json cannot ask whether you are sure", "Add --yes")
    lacking = access.lacking(grants)
    if lacking and not yes:
        for principal, right in lacking:
            typer.echo(f"{principal}: {right}")
        if not typer.confirm(f"Give these {len(lacking)} rights?"):
            raise typer.Exit(1)
    access.give(lacking)
    if as_json:
        view.print_json({"given": [{"principal": principal, **_json(right)} for principal, right in lacking]})
    else:
        typer.echo(f"Gave {view.counted(len(lacking), 'right')}; {len(grants) - len(lacking)} were given already.")
