"""How pages are made: Jinja's templates, always escaping, and how values are written in them.

Invariant: whatever a task says is text: nothing is marked as safe, here or in a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec
from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fairlane.monitor.api.serving import serving_of
from fairlane.monitor.api.tokens import Caller
from fairlane.monitor.order_view import pause_line
from fairlane.monitor.show import age
from fairlane.topics.clock import now_ms

PATH: Final = "/ui"
SHOWN_CHARS: Final = 100_000

T = TypeVar("T", bound=msgspec.Struct)


def page(request: Request, template: str, caller: Caller | None, status: int = 200, **values: Any) -> Response:
    """A page, or a part of one, by the name of its template."""
    serving, now = serving_of(request), now_ms()
    pauses = [each for each in serving.look().stats.paused if each.holds(now)] if caller else []
    text = _ENVIRONMENT.get_template(template).render(
        request=request, queue=serving.names.queue, names=serving.names, caller=caller, path=PATH,
        signed_in=bool(serving.tokens), pauses={each.scope: each for each in pauses},
        paused=[(each, pause_line(each, serving.names.queue, now, utc)) for each in pauses], **values,
    )  # fmt: skip
    return HTMLResponse(text, status)


def failure(request: Request, status: int, detail: str) -> Response:
    """What went wrong, as a page or, for a part of one, as a line in it."""
    template = "problem.html" if "hx-request" in request.headers else "failure.html"
    # htmx leaves out what has another status.
    caller = getattr(request.state, "caller", None)
    return page(request, template, caller, 200 if template == "problem.html" else status, code=status, detail=detail)


def said(response: Response, of: type[T]) -> T:
    """What a route of the API answered."""
    return msgspec.json.decode(bytes(response.body), type=of)


def link(route: str, **values: object) -> str:
    """An address of the dashboard; empty values are left out."""
    query = urlencode([(name, str(value)) for name, value in values.items() if value])
    return f"{PATH}/{route}{'?' if query else ''}{query}"


def pretty(text: str) -> str:
    """JSON with line ends, its numbers as they stand there; anything else as it is."""
    shown = text[:SHOWN_CHARS]
    if len(shown) < len(text):
        return f"{shown}\n… {len(text) - len(shown):,} more characters"
    try:
        return msgspec.json.format(shown, indent=2)
    except (ValueError, RecursionError):
        return shown


def moment(ms: int) -> str:
    """A time in UTC."""
    if not 0 < ms < 253_402_300_800_000:
        return "–"
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def utc(ms: int) -> str:
    """The same where nothing else says that it is UTC."""
    return f"{moment(ms)} UTC"


def lasted(ms: float) -> str:
    """A time span, for people."""
    return f"{ms:,.0f} ms" if ms < 1_000 else f"{ms / 1_000:,.1f} s" if ms < 60_000 else age(int(ms))


def number(value: float) -> str:
    """A number with its thousands; a rate with one place."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", followlinks=True),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    filters: Mapping[str, Any] = {
        "age": lambda ms: age(int(ms)), "lasted": lasted, "moment": moment, "number": number, "pretty": pretty
    }  # fmt: skip
    made.filters.update(filters)
    made.globals.update(link=link)
    return made


_ENVIRONMENT: Final = _environment()
