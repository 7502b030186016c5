"""What operators ask of the workers: what is in force, who asked for what, and the forms that ask.

Invariant: what acts goes through the functions of the API, so that a button is refused what a request would be. A form
is shown before anything is asked, and what came of it in its place.
"""

from __future__ import annotations

from typing import Final, Literal

from fastapi import APIRouter, Request, Response

from fairlane.monitor.api import control_routes, queue_routes
from fairlane.monitor.api.control_routes import Cancel, Cancelled, InForce, Pause, Resume
from fairlane.monitor.api.parameters import Cursor, Text
from fairlane.monitor.api.queue_routes import AuditPage
from fairlane.monitor.api.serving import Operator, Served, Viewer
from fairlane.monitor.cancel_view import cancel_words
from fairlane.monitor.dashboard.forms import Form, valid
from fairlane.monitor.dashboard.pages import page, said, utc
from fairlane.monitor.order_view import pause_line
from fairlane.topics.control import ControlRecord

router = APIRouter(prefix="/control")

_A_PAGE: Final = 50
_SHOWN: Final = 100
_SPANS: Final = {"5m": 300_000, "15m": 900_000, "1h": 3_600_000, "4h": 14_400_000, "24h": 86_400_000}


@router.get("")
def control(request: Request, serving: Served, caller: Viewer, cursor: Cursor = "") -> Response:
    """What is in force, and who did what."""
    found = said(queue_routes.audit(serving, caller, limit=_A_PAGE, cursor=cursor), AuditPage)
    return page(request, "control.html", caller, found=found, cursor=cursor)


@router.get("/in-force")
def in_force(request: Request, serving: Served, caller: Viewer) -> Response:
    """What is asked of the workers now, as Kafka has it."""
    found = said(control_routes.in_force(serving, caller, limit=_SHOWN), InForce)
    return page(request, "in_force.html", caller, found=found)


@router.get("/ask")
def ask(
    request: Request,
    serving: Served,
    caller: Operator,
    verb: Literal["cancel", "pause", "resume"],
    lane: Text = "",
    id: Text = "",  # noqa: A002 - the name in the URL
) -> Response:
    """The form that asks for it."""
    lanes = [each.topic for each in serving.look().stats.lanes]
    return page(request, f"ask_{verb}.html", caller, lane=lane, lanes=lanes, id=id, spans=list(_SPANS))


@router.post("/cancel")
def cancel(request: Request, serving: Served, caller: Operator, form: Form) -> Response:
    """Cancel tasks, one id a line."""
    ids = [line for text in form.all("ids") for line in text.split("\n") if line.strip()]
    # An id may begin or end with a space, but not where somebody wrote a list of them.
    asked = valid(
        Cancel, {"ids": ids if len(ids) == 1 else [each.strip() for each in ids], "reason": form.get("reason")}
    )
    answers = said(control_routes.cancel(asked, serving, caller), Cancelled).answers
    told = [(each.id, cancel_words(each)) for each in answers[:_SHOWN]]
    return _asked(page(request, "asked.html", caller, title="Cancel", told=told, more=len(answers) - len(told)))


@router.post("/pause")
def pause(request: Request, serving: Served, caller: Operator, form: Form) -> Response:
    """Pause a lane, or the queue."""
    asked = {"lane": form.get("lane"), "reason": form.get("reason"), "for_ms": _SPANS.get(form.get("span"), 0)}
    record = said(control_routes.pause(valid(Pause, asked), serving, caller), ControlRecord)
    line = pause_line(record, serving.names.queue, record.at_ms, utc)
    told = [("", f"{line}. Running tasks go on.")]
    return _asked(page(request, "asked.html", caller, title="Pause", told=told, more=0))


@router.post("/resume")
def resume(request: Request, serving: Served, caller: Operator, form: Form) -> Response:
    """Let a lane, or the queue, go on."""
    asked = valid(Resume, {"lane": form.get("lane"), "reason": form.get("reason")})
    left = said(control_routes.resume(asked, serving, caller), InForce).records
    queue = serving.names.queue
    told = [(asked.lane or f"queue {queue}", "goes on")]
    told += [("still so", pause_line(each, queue, each.at_ms, utc)) for each in left]
    return _asked(page(request, "asked.html", caller, title="Resume", told=told, more=0))


def _asked(answer: Response) -> Response:
    """Have the parts of the page that show what is in force look again."""
    answer.headers["HX-Trigger"] = "fairlane-asked"
    return answer
