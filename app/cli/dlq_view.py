"""How `fairlane dlq` shows letters: a table, one letter in full, and plain values for JSON.

Invariant: it only shows; text from letters goes through `visible` or `payload_text` first.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import typer

from fairlane.cli.topics_view import console, counted
from fairlane.monitor.aftermath import Aftermath, counted_by_state
from fairlane.monitor.dlq import Listed, Listing
from fairlane.monitor.letter import Letter
from fairlane.monitor.letter_groups import Group
from fairlane.monitor.section import Column, Section
from fairlane.monitor.show import age, json_text, moment, payload_text, visible
from fairlane.topics.events import UNREADABLE


def print_listing(listing: Listing, now_ms: int) -> None:
    """The letters as a table, and what is not in it."""
    if listing.letters:
        out = console()
        out.print(_section_of(listing.letters, now_ms).table(out.width))
        typer.echo()
    shown = "No dead letters." if not listing.letters else f"{counted(len(listing.letters), 'letter')}."
    if listing.more:
        shown = f"The newest {len(listing.letters):,}; there are more: --limit {len(listing.letters) * 10} shows more."
    if listing.hidden:
        verb = "was" if listing.hidden == 1 else "were"
        shown += f" {counted(listing.hidden, 'other')} {verb} replayed: --all shows them."
    typer.echo(shown)


def _section_of(letters: Sequence[Listed], now_ms: int) -> Section:
    columns: list[tuple[Column, Callable[[Listed], str]]] = [
        (Column("Letter", right=False), lambda listed: _number(listed.letter)),
        (Column("Type", right=False, least=8), lambda listed: listed.letter.type),
        (Column("Reason", right=False), lambda listed: listed.letter.reason),
        (Column("Error", right=False, least=24), lambda listed: listed.letter.error),
        (Column("Died"), lambda listed: f"{age(now_ms - listed.letter.died_ms)} ago"),
        (Column("Attempts", rank=1), lambda listed: str(listed.letter.attempt or "")),
        (Column("From", right=False, rank=3), lambda listed: _from(listed.letter)),
        (Column("Task", right=False, rank=2), lambda listed: listed.letter.task_id),
    ]
    if any(listed.replayed for listed in letters):
        columns.append((Column("Replayed"), lambda listed: _replayed_ago(listed, now_ms)))
    return Section(
        tuple(column for column, _ in columns),
        tuple(tuple(visible(cell(listed)) or "-" for _, cell in columns) for listed in letters),
    )


def _number(letter: Letter) -> str:
    return f"{letter.record.partition}/{letter.record.offset}"


def _from(letter: Letter) -> str:
    return letter.lane or (letter.original.topic if letter.original else "")


def _replayed_ago(listed: Listed, now_ms: int) -> str:
    return f"{age(now_ms - listed.replayed.at_ms)} ago" if listed.replayed else ""


def print_letter(listed: Listed, now_ms: int, became: Aftermath | None = None) -> None:
    """One letter in full, and what became of it."""
    letter = listed.letter
    facts = {
        "Letter": letter.place,
        "Task": letter.task_id,
        "Type": letter.type,
        "Reason": letter.reason,
        "Error": letter.error,
        "Attempts": f"{letter.attempt} of {letter.max_attempts}" if letter.max_attempts else str(letter.attempt or ""),
        "Replays": str(letter.replays or ""),
        "Died": _when(letter.died_ms, now_ms),
        "First failed": _when(letter.first_failed_ms, now_ms),
        "Enqueued": _when(letter.enqueued_ms, now_ms),
        "Lane": letter.lane,
        "Read from": str(letter.original or ""),
        "Origin": letter.origin,
        "Trace": letter.trace_id,
    }
    if listed.replayed:
        facts["Replayed"] = f"{_when(listed.replayed.at_ms, now_ms)} by {listed.replayed.who} to {listed.replayed.to}"
    if became:
        facts["Now"] = _became(became, now_ms)
    for name, text in facts.items():
        if text:
            typer.echo(f"{name}: {visible(text)}")
    typer.echo(f"Key: {_bytes_text(letter.record.key)}")
    kind = visible(letter.content_type) or "no content type"
    _section(f"Payload ({kind}, {len(letter.payload):,} bytes)", payload_text(letter.payload))
    headers = [f"{visible(name)}: {_bytes_text(value)}" for name, value in letter.record.headers if _worth(name)]
    _section("Headers", "\n".join(headers) or "(none)")
    if letter.traceback:
        _section("Traceback", visible(letter.traceback.rstrip(), lines=True))


def _became(became: Aftermath, now_ms: int) -> str:
    parts = [became.state]
    if became.finished_ms:
        parts.append(_when(became.finished_ms, now_ms))
    if became.error:
        parts.append(became.error)
    if became.died_again:
        parts.append(f"dead again: {became.died_again}")
    return ", ".join(parts)


def _worth(name: str) -> bool:
    # The traceback has a section of its own, and the aliases of KIP-1191 say the same again.
    return name != "fairlane-traceback" and not name.startswith("__dlq.errors.")


def _section(title: str, text: str) -> None:
    typer.echo(f"\n{title}:")
    typer.echo("\n".join(f"  {line}" for line in text.split("\n")))


def _bytes_text(raw: bytes | None) -> str:
    if raw is None:
        return "(null)"
    try:
        return visible(raw.decode())
    except UnicodeDecodeError:
        return f"0x{raw.hex()}"


def _when(at_ms: int, now_ms: int) -> str:
    return f"{moment(at_ms)} ({age(now_ms - at_ms)} ago)" if at_ms else ""


def print_groups(found: Sequence[Group], queue: str, now_ms: int) -> None:
    """What letters died of, as a table."""
    if not found:
        typer.echo("No dead letters.")
        return
    columns: list[tuple[Column, Callable[[Group], str]]] = [
        (Column("Letters"), lambda group: f"{group.count:,}"),
        (Column("Type", right=False, least=8), lambda group: group.type),
        (Column("Reason", right=False), lambda group: group.reason),
        (Column("Error", right=False, least=24), lambda group: group.error),
        (Column("Oldest", rank=2), lambda group: f"{age(now_ms - group.oldest_ms)} ago"),
        (Column("Newest", rank=1), lambda group: f"{age(now_ms - group.newest_ms)} ago"),
        (Column("Replays", rank=3), lambda group: str(group.replays or "")),
        (Column("Group", right=False), lambda group: group.id),
    ]
    _print_table(columns, found)
    total = sum(group.count for group in found)
    typer.echo(f"{counted(total, 'letter')} in {counted(len(found), 'group')}.")
    typer.echo(f"`fairlane dlq list --group {found[0].id} --queue {queue}` lists the first; so do replay and purge.")


def print_aftermath(found: Sequence[Aftermath], limit: int, now_ms: int) -> None:
    """What became of letters that were put back: how many, and the first, those that did not complete before others."""
    if not found:
        typer.echo("No letter that fits was replayed.")
        return
    columns: list[tuple[Column, Callable[[Aftermath], str]]] = [
        (Column("Letter", right=False), lambda one: one.letter.partition("/")[2]),
        (Column("Type", right=False, least=8), lambda one: one.type),
        (Column("State", right=False), lambda one: one.state),
        (Column("Error", right=False, least=16, rank=1), lambda one: one.error),
        (Column("Died again", right=False, rank=2), lambda one: one.died_again.partition("/")[2]),
        (Column("Replayed"), lambda one: f"{age(now_ms - one.replayed_ms)} ago"),
        (Column("By", right=False, rank=4), lambda one: one.who),
        (Column("Job", right=False, rank=3), lambda one: one.job),
        (Column("Task", right=False, rank=5), lambda one: one.task_id),
    ]
    shown = sorted(found, key=lambda one: one.state == "completed")[:limit]
    _print_table(columns, shown)
    states = ", ".join(f"{number:,} {state}" for state, number in counted_by_state(found).items())
    more = f", {len(shown):,} of them shown" if len(shown) < len(found) else ""
    typer.echo(f"{counted(len(found), 'letter')} replayed: {states}{more}.")


def aftermath_json(found: Sequence[Aftermath], limit: int) -> str:
    """What became of letters that were put back."""
    return _json({"count": len(found), "states": counted_by_state(found), "letters": found[:limit]})


def plain_json(value: Any) -> str:
    """A value of fairlane's own as JSON."""
    return _json(value)


_Row = TypeVar("_Row")


def _print_table(columns: Sequence[tuple[Column, Callable[[_Row], str]]], rows: Sequence[_Row]) -> None:
    out = console()
    section = Section(
        tuple(column for column, _ in columns),
        tuple(tuple(visible(cell(row)) or "-" for _, cell in columns) for row in rows),
    )
    out.print(section.table(out.width))
    typer.echo()


def listing_json(listing: Listing) -> str:
    """Letters without their payloads."""
    return _json({"letters": [_plain(one) for one in listing.letters], "more": listing.more, "hidden": listing.hidden})


def letter_json(listed: Listed, became: Aftermath | None = None) -> str:
    """One letter in full, and what became of it."""
    letter = listed.letter
    return _json(
        {
            **_plain(listed),
            "key": _text_or_base64(letter.record.key),
            **_payload(letter.payload),
            "headers": [[name, _text_or_base64(value)] for name, value in letter.record.headers],
            "traceback": letter.traceback,
            "became": became,
        }
    )


def _plain(listed: Listed) -> dict[str, Any]:
    letter = listed.letter
    replayed = listed.replayed
    return {
        "letter": letter.place,
        "task_id": letter.task_id,
        "type": letter.type,
        "reason": letter.reason,
        "error": {"type": letter.error_type, "message": letter.error_message},
        "attempt": letter.attempt,
        "max_attempts": letter.max_attempts,
        "replays": letter.replays,
        "lane": letter.lane,
        "original": str(letter.original) if letter.original else "",
        "origin": letter.origin,
        "enqueued_ms": letter.enqueued_ms,
        "first_failed_ms": letter.first_failed_ms,
        "died_ms": letter.died_ms,
        "trace_id": letter.trace_id,
        "replayed": {
            "at_ms": replayed.at_ms,
            "who": replayed.who,
            "to": replayed.to,
            "job": replayed.job,
            "edited": replayed.edited,
        }
        if replayed
        else None,
    }


def _payload(raw: bytes) -> dict[str, Any]:
    """The payload as JSON if it is JSON, else in base64."""
    try:
        msgspec.json.decode(raw)
    except UNREADABLE:
        return {"payload_base64": base64.b64encode(raw).decode()}
    return {"payload": msgspec.Raw(raw)}


def _text_or_base64(raw: bytes | None) -> str | dict[str, str] | None:
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _json(value: Any) -> str:
    return json_text(msgspec.json.encode(value))
