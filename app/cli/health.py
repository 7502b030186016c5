"""`fairlane health`: ask the health port of a worker on this machine; for images that have no curl.

Invariant: it ends with 0 if and only if the worker answered that it is well.
"""

from __future__ import annotations

import http.client
from typing import Annotated, Any

import msgspec
import typer

from fairlane.cli.options import JsonOption
from fairlane.monitor.show import json_text
from fairlane.settings import Settings
from fairlane.topics.errors import UsageError

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to ask a worker that listens everywhere


def health(
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65_535, metavar="N", show_default="$FAIRLANE_HEALTH_PORT", help="Its port."),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", show_default="$FAIRLANE_HEALTH_HOST", help="Its address.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Whether it is alive, rather than whether it is ready.")] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for the answer.")
    ] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Ask a worker whether it is well: 0 if it is ready (or alive), 1 if not, with what is wrong."""
    settings = Settings()
    port = port or settings.health_port
    if not port:
        raise UsageError("no health port is named", "Say --port PORT, or set FAIRLANE_HEALTH_PORT")
    host = host or _EVERYWHERE.get(settings.health_host, settings.health_host)
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/livez" if live else "/readyz")
        answer = connection.getresponse()
        report: Any = msgspec.json.decode(answer.read())
        lines = [_line(check) for check in report["checks"]]
    except (OSError, http.client.HTTPException, msgspec.DecodeError, LookupError, TypeError) as error:
        typer.echo(f"no worker answers at {host}:{port}: {error}", err=True)
        raise typer.Exit(1) from None
    finally:
        connection.close()
    typer.echo(json_text(msgspec.json.encode(report)) if as_json else "\n".join(lines))
    raise typer.Exit(0 if answer.status == http.client.OK else 1)


def _line(check: dict[str, Any]) -> str:
    age = f" ({check['age_s']:g} s of {check['limit_s']:g} s)" if check["age_s"] is not None else ""
    return f"{'ok' if check['ok'] else 'FAILED':<7} {check['name']:<11} {check['says']}{age}"
