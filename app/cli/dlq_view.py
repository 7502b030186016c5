"""How `fairlane dlq` shows letters: a table, one letter in full, and plain values for JSON.

Invariant: it only shows; text from letters goes through `visible` or `payload_text` first.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import typer

from fairlane.cli.topics_view import console, counted
from fairlane.monitor.dlq import Listed, Listing
from fairlane.monitor.letter import Letter
from fairlane.monitor.replay import Replays
from fairlane.monitor.section import Column, Section
from fairlane.monitor.show import age, json_text, moment, payload_text, visible
from fairlane.topics.events import UNREADABLE

_KINDS_SHOWN: Final = 5
_SUMMARISED: Final = 20


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
        (Column("Error", right=False, least=24), lambda listed: _error(listed.letter)),
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


def _error(letter: Letter) -> str:
    return f"{letter.error_type}: {letter.error_message}" if letter.error_message else letter.error_type


def print_letter(listed: Listed, now_ms: int) -> None:
    """One letter in full."""
    letter = listed.letter
    facts = {
        "Letter": letter.place,
        "Task": letter.task_id,
        "Type": letter.type,
        "Reason": letter.reason,
        "Error": _error(letter),
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


def summary(listing: Listing) -> str:
    """How many letters of which types and reasons."""
    kinds = Counter((listed.letter.type or "no type", listed.letter.reason or "-") for listed in listing.letters)
    lines = [
        f"{number:>7,}  {visible(kind)} ({visible(reason)})"
        for (kind, reason), number in kinds.most_common(_KINDS_SHOWN)
    ]
    if len(kinds) > _KINDS_SHOWN:
        lines.append(f"{'…':>7}  and {len(kinds) - _KINDS_SHOWN} more kinds")
    if listing.more:
        lines.append("There are more than these: --limit takes more at once, or run the command again.")
    return "\n".join(lines)


def print_replays(done: Replays, listing: Listing) -> None:
    """What was put back."""
    for one in done.done[:_SUMMARISED]:
        typer.echo(
            f"Replayed: {one.letter} to {visible(one.to)}/{one.partition}/{one.offset}, task {visible(one.task_id)}"
        )
    if len(done.done) > _SUMMARISED:
        typer.echo(f"… and {len(done.done) - _SUMMARISED:,} more")
    for audit in done.refused[:_SUMMARISED]:
        typer.echo(f"Left out: {visible(audit.letter)}, replayed meanwhile by {visible(audit.who)}")
    if len(done.done) != 1 or done.refused:
        typer.echo(f"{counted(len(done.done), 'letter')} replayed.")
    if listing.more:
        typer.echo("There are more that fit: run the command again.")


def listing_json(listing: Listing) -> str:
    """Letters without their payloads."""
    return _json({"letters": [_plain(one) for one in listing.letters], "more": listing.more, "hidden": listing.hidden})


def letter_json(listed: Listed) -> str:
    """One letter in full."""
    letter = listed.letter
    return _json(
        {
            **_plain(listed),
            "key": _text_or_base64(letter.record.key),
            **_payload(letter.payload),
            "headers": [[name, _text_or_base64(value)] for name, value in letter.record.headers],
            "traceback": letter.traceback,
        }
    )


def replays_json(done: Replays) -> str:
    """What was put back, and what was not."""
    return _json(done)


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
        "replayed": {"at_ms": replayed.at_ms, "who": replayed.who, "to": replayed.to} if replayed else None,
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
