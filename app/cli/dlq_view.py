"""How `fairlane dlq` shows letters: a table, one letter in full, and plain values for JSON.

Invariant: it only shows; text from letters goes through `visible` or `payload_text` first.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import typer
from rich.cells import cell_len
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from fairlane.cli.topics_view import console, counted
from fairlane.monitor.dlq import Listed, Listing
from fairlane.monitor.letter import Letter
from fairlane.monitor.replay import Replays
from fairlane.monitor.show import age, json_text, moment, payload_text, visible

_KINDS_SHOWN: Final = 5
_SUMMARISED: Final = 20


def print_listing(listing: Listing, now_ms: int) -> None:
    """The letters as a table, and what is not in it."""
    if listing.letters:
        out = console()
        out.print(_table(listing.letters, now_ms, out.width))
        typer.echo()
    shown = "No dead letters." if not listing.letters else f"{counted(len(listing.letters), 'letter')}."
    if listing.more:
        shown = f"The newest {len(listing.letters):,}; there are more: --limit {len(listing.letters) * 10} shows more."
    if listing.hidden:
        verb = "was" if listing.hidden == 1 else "were"
        shown += f" {counted(listing.hidden, 'other')} {verb} replayed: --all shows them."
    typer.echo(shown)


def _table(letters: Sequence[Listed], now_ms: int, width: int) -> Table:
    """As many columns as fit; what is cut to fit is the error, whose whole text `show` has."""
    names = [name for name in _COLUMNS if name != "Replayed" or any(listed.replayed for listed in letters)]
    rows = [[visible(_COLUMNS[name](listed, now_ms)) or "-" for name in names] for listed in letters]
    widths = [max(len(name), *(cell_len(row[number]) for row in rows)) for number, name in enumerate(names)]
    shown = [number for number in range(len(names)) if names[number] not in _LEAST_NEEDED]
    for name in reversed(_LEAST_NEEDED):
        number = names.index(name)
        room = width - _gaps(len(shown) + 1) - sum(widths[each] for each in shown if names[each] != "Error")
        if room - widths[number] >= _ERROR_MIN:
            shown.append(number)
    shown.sort()
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    rest = width - _gaps(len(shown)) - sum(widths[each] for each in shown if names[each] != "Error")
    for number in shown:
        error = names[number] == "Error"
        justify: JustifyMethod = "right" if names[number] in ("Died", "Attempts") else "left"
        table.add_column(
            names[number], no_wrap=True, overflow="ellipsis", justify=justify, max_width=max(rest, 8) if error else None
        )
    for row in rows:
        # Text, not str: square brackets in an error are no markup.
        table.add_row(*(Text(row[number]) for number in shown))
    return table


def _gaps(columns: int) -> int:
    return _GAP * columns


def _error(letter: Letter) -> str:
    return f"{letter.error_type}: {letter.error_message}" if letter.error_message else letter.error_type


_COLUMNS: Final[Mapping[str, Callable[[Listed, int], str]]] = {
    "Letter": lambda listed, _: f"{listed.letter.record.partition}/{listed.letter.record.offset}",
    "Type": lambda listed, _: listed.letter.type,
    "Reason": lambda listed, _: listed.letter.reason,
    "Error": lambda listed, _: _error(listed.letter),
    "Died": lambda listed, now_ms: f"{age(now_ms - listed.letter.died_ms)} ago",
    "Attempts": lambda listed, _: str(listed.letter.attempt or ""),
    "From": lambda listed, _: listed.letter.lane or (listed.letter.original.topic if listed.letter.original else ""),
    "Task": lambda listed, _: listed.letter.task_id,
    "Replayed": lambda listed, now_ms: f"{age(now_ms - listed.replayed.at_ms)} ago" if listed.replayed else "",
}
_LEAST_NEEDED: Final = ("From", "Task")
"""Columns that a narrow terminal goes without, the least needed first."""
_ERROR_MIN: Final = 24
_GAP: Final = 2


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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
