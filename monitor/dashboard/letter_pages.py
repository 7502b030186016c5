"""The DLQ workbench: groups, letters, and a dry run before anything is done.

Invariant: what acts goes through the functions of the API, so that a button is refused what a request would be; what is
done is what the dry run was about: its answer carries the fields that it was asked with.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from fairlane.monitor.api import letter_routes
from fairlane.monitor.api.jobs import JobItem
from fairlane.monitor.api.letter_routes import GroupList, JobList, LetterPage, Planned, Purge, Replay
from fairlane.monitor.api.parameters import Cursor, Text
from fairlane.monitor.api.serving import Operator, Served, Viewer
from fairlane.monitor.dashboard.editing import editable
from fairlane.monitor.dashboard.forms import Fields, Form, valid
from fairlane.monitor.dashboard.pages import page, said
from fairlane.monitor.dlq import list_letters
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.replay_job import LOOPS
from fairlane.topics.events import Reason

router = APIRouter(prefix="/dlq")

_A_PAGE: Final = 50
_GROUPS: Final = 50
_FILTERS: Final = ("task_id", "type", "reason", "error", "lane", "group")
_REASONS: Final = get_args(Reason)


@router.get("")
def letters(
    request: Request,
    serving: Served,
    caller: Viewer,
    task_id: Text = "",
    type: Text = "",  # noqa: A002 - the name in the URL
    reason: Text = "",
    error: Text = "",
    lane: Text = "",
    group: Text = "",
    cursor: Cursor = "",
) -> Response:
    """Letters that nobody has dealt with, and what can be done with those that fit the filter."""
    asked = dict(zip(_FILTERS, (task_id, type, reason, error, lane, group), strict=True))
    answer = letter_routes.letters(
        serving, caller, task_id=task_id, type=type, reason=reason, lane=lane, group=group, error=error,
        limit=_A_PAGE, cursor=cursor,
    )  # fmt: skip
    return page(
        request, "dlq.html", caller, found=said(answer, LetterPage), asked=asked, cursor=cursor, reasons=_REASONS,
        lanes=[each.topic for each in serving.look().stats.lanes], places=[], edit=None, loops=LOOPS,
    )  # fmt: skip


@router.get("/groups")
def groups(request: Request, serving: Served, caller: Viewer) -> Response:
    """What they died of."""
    found = said(letter_routes.groups(serving, caller, limit=_GROUPS), GroupList)
    return page(request, "groups.html", caller, groups=found.groups, most=_GROUPS)


@router.get("/letter")
def letter(request: Request, serving: Served, caller: Viewer, at: Text) -> Response:
    """One letter with all that is in it."""
    topic, _, rest = at.rpartition("/")[0].rpartition("/")
    if topic != serving.names.dlq or not (rest.isdecimal() and at.rpartition("/")[2].isdecimal()):
        raise HTTPException(404, f"A letter is named {serving.names.dlq}/PARTITION/OFFSET")
    wanted = LetterFilter(places=frozenset([at]), replayed=True)
    found = list_letters(serving.connection, serving.names, wanted, limit=1, timeout_s=serving.timeout_s).letters
    if not found:
        raise HTTPException(404, "There is no such letter any more")
    payload = found[0].letter.payload
    headers = [
        (name, "" if value is None else value.decode("utf-8", "backslashreplace"))
        for name, value in found[0].letter.record.headers
    ]
    return page(
        request, "letter.html", caller, letter=found[0].letter, dealt=found[0].replayed,
        payload=payload.decode("utf-8", "backslashreplace"), headers=headers, places=[at],
        asked=dict.fromkeys(_FILTERS, ""), edit=editable(payload), loops=LOOPS,
        trace=serving.links.of_trace(found[0].letter.trace_id),
    )  # fmt: skip


@router.post("/plan")
def plan(request: Request, serving: Served, caller: Operator, form: Form) -> Response:
    """What a replay would do, and the buttons that do it."""
    planned = said(letter_routes.plan(_replay(form), serving, caller), Planned)
    # Letters go oldest first, so that those which die from now on are beyond the count.
    pairs = [*((name, value) for name, value in form.pairs if name != "limit"), ("limit", str(planned.count))]
    return page(request, "plan.html", caller, plan=planned, editing=bool(form.get("kind")), pairs=pairs)


@router.post("/replay")
def replay(request: Request, serving: Served, caller: Operator, form: Form) -> Response:
    """Begin a replay."""
    return _started(request, caller, letter_routes.replay(_replay(form), serving, caller))


@router.post("/purge")
def purge(request: Request, serving: Served, caller: Operator, form: Form) -> Response:
    """Begin a purge, if the count that was typed is the count of those that fit."""
    count = form.get("count").strip()
    if not count.isdecimal():
        raise HTTPException(400, "Type how many letters are to be purged: what is purged does not come back")
    asked = valid(Purge, {**_chosen(form), "count": int(count)})
    return _started(request, caller, letter_routes.purge(asked, serving, caller))


@router.get("/jobs")
def jobs(request: Request, serving: Served, caller: Viewer) -> Response:
    """How far the jobs are."""
    return page(request, "jobs.html", caller, jobs=said(letter_routes.jobs(serving, caller), JobList).jobs[:5])


@router.post("/jobs/{job_id}/{verb}")
def steer(
    request: Request, job_id: str, verb: Literal["pause", "resume", "stop"], serving: Served, caller: Operator
) -> Response:
    """Pause a job, let it go on, or stop it."""
    letter_routes.steer(job_id, verb, serving, caller)
    return jobs(request, serving, caller)


def _started(request: Request, caller: Operator, answer: Response) -> Response:
    return page(request, "started.html", caller, job=msgspec.json.decode(bytes(answer.body), type=JobItem))


def _chosen(form: Fields) -> dict[str, Any]:
    chosen: dict[str, Any] = {name: form.get(name) for name in _FILTERS}
    return {**chosen, "places": form.all("places"), "all": form.get("all") == "on"}


def _replay(form: Fields) -> Replay:
    asked = _chosen(form)
    if kind := form.get("kind"):
        asked["edit"] = {"kind": kind, "text": form.get("text")}
    for name in ("limit", "per_s", "loops"):
        if value := form.get(name).strip():
            asked[name] = value
    return valid(Replay, {**asked, "again": form.get("again") == "on", "skip_unfit": form.get("skip_unfit") == "on"})
