"""Dead letters: pages and groups of them, and what operators do with them.

Invariant: everything that acts needs an operator and writes to the audit in the transaction of what it does. A replay
or purge is a job: what it is about is fixed when it is asked for, and it runs while nobody waits.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from fairlane.monitor import replay_job
from fairlane.monitor.api.answers import answers, said
from fairlane.monitor.api.jobs import Job, JobItem
from fairlane.monitor.api.parameters import Cursor, Limit, Text
from fairlane.monitor.api.serving import Operator, Served, Serving, Viewer
from fairlane.monitor.edit import Edit
from fairlane.monitor.job_run import Progress
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.letter_groups import Group
from fairlane.monitor.purge import purge_letters
from fairlane.monitor.replay import How, new_job, plan_replay, run_replay
from fairlane.monitor.replay_job import LOOPS, ReplayJob
from fairlane.monitor.store import letter_queries
from fairlane.monitor.store.letter_queries import LetterItem

router = APIRouter(prefix="/dlq", tags=["dlq"])

MOST_CHARS: Final = 1_048_576
"""Of a new payload or a patch."""

_FIRST: Final = 3
_FIRST_BYTES: Final = 4_096


class LetterPage(msgspec.Struct, frozen=True):
    """Dead letters, the newest first; `next` is the cursor of the next page, or ""."""

    letters: tuple[LetterItem, ...]
    next: str = ""


class GroupList(msgspec.Struct, frozen=True):
    """Groups of letters that died of the same thing, the largest first."""

    groups: tuple[Group, ...]


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A letter as a replay would send it: to which lane, and the first characters of its payload before and after."""

    letter: str
    task_id: str
    to: str
    before: str
    after: str


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay would do: how many letters it would send, the first of them, and how many it would leave out."""

    count: int
    lanes: dict[str, int]
    dealt: int
    looping: int
    unfit: int
    problems: tuple[str, ...]
    first: tuple[Sent, ...] = ()


class JobList(msgspec.Struct, frozen=True):
    """The jobs that this monitor ran, the newest first."""

    jobs: tuple[JobItem, ...]


class Chosen(BaseModel):
    """Which letters: those that fit all that is said; nothing said is refused, unless `all` is."""

    model_config = ConfigDict(extra="forbid")

    places: list[str] = Field(default=[], max_length=10_000, description="each topic/partition/offset")
    task_id: str = Field("", max_length=1_024)
    type: str = Field("", max_length=1_024)
    reason: str = Field("", max_length=100)
    error: str = Field("", max_length=1_024)
    lane: str = Field("", max_length=300)
    group: str = Field("", max_length=100)
    since_ms: int = Field(0, ge=0, lt=2**53)
    until_ms: int = Field(0, ge=0, lt=2**53)
    all: bool = False

    def filter(self, serving: Serving, *, replayed: bool) -> LetterFilter:
        """The filter that it is."""
        for place in self.places:
            topic, _, rest = place.rpartition("/")[0].rpartition("/")
            if topic != serving.names.dlq or not rest.isdecimal() or not place.rpartition("/")[2].isdecimal():
                raise HTTPException(400, f"a letter is named {serving.names.dlq}/PARTITION/OFFSET")
        found = LetterFilter(
            places=frozenset(self.places), task_id=self.task_id, type=self.type, reason=self.reason, error=self.error,
            lane=self.lane, group=self.group, since_ms=self.since_ms, until_ms=self.until_ms, replayed=replayed,
        )  # fmt: skip
        if not (found.chooses or self.all):
            raise HTTPException(400, 'no letter is chosen: name letters, a type, a reason, …, or say "all": true')
        return found


class Change(BaseModel):
    """What to do with their payloads: another one in their place, or a JSON merge patch (RFC 7396)."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["payload", "merge"]
    text: str = Field(max_length=MOST_CHARS)


class Replay(Chosen):
    """A replay, perhaps edited."""

    edit: Change | None = None
    again: bool = Field(False, description="also those that were replayed before")
    limit: int = Field(0, ge=0, le=10_000_000, description="at most so many, the oldest; 0 is all")
    loops: int = Field(LOOPS, ge=0, le=1_000, description="leave out tasks put back so often; 0 leaves out none")
    skip_unfit: bool = False
    per_s: float = Field(0, ge=0, le=1_000_000, description="at most so many a second; 0 is any")


class Purge(Chosen):
    """A purge, which cannot be undone: it is done only if as many letters fit as `count` says."""

    count: int = Field(ge=0, description="how many letters fit, as a plan says")


@router.get("/letters", responses=answers(LetterPage, 400))
def letters(
    serving: Served,
    _: Viewer,
    task_id: Text = "",
    type: Text = "",  # noqa: A002 - the name in the URL
    reason: Text = "",
    lane: Text = "",
    group: Text = "",
    error: Annotated[str, Query(max_length=1_024, description="what is in `ErrorType: message`")] = "",
    every: bool = False,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> Response:
    """Dead letters that nobody has dealt with, or `every` one."""
    with serving.readers.lent() as database:
        found = letter_queries.letters(
            database, serving.names.dlq, limit=limit, cursor=cursor, every=every, error=error, task_id=task_id,
            type=type, reason=reason, lane=lane, group_id=group,
        )  # fmt: skip
    return said(LetterPage(*found))


@router.get("/groups", responses=answers(GroupList))
def groups(serving: Served, _: Viewer, limit: Limit = 1_000) -> Response:
    """Letters that nobody has dealt with, by what they died of."""
    with serving.readers.lent() as database:
        return said(GroupList(letter_queries.groups(database, serving.names.dlq, limit=limit)))


@router.post("/plan", responses=answers(Planned, 400, 409))
def plan(asked: Replay, serving: Served, _: Operator) -> Response:
    """What a replay would do; it does nothing."""
    job = _job(asked, serving)
    found = plan_replay(serving.connection, serving.names, job, shown=_FIRST, timeout_s=serving.timeout_s)
    return said(
        Planned(
            count=found.count,
            lanes=found.lanes,
            dealt=found.dealt,
            looping=found.looping,
            unfit=found.unfit,
            problems=found.problems,
            first=tuple(_sent(each) for each in found.first),
        )
    )


@router.post("/replay", status_code=202, responses=answers(JobItem, 400, 409, status=202))
def replay(asked: Replay, serving: Served, caller: Operator) -> Response:
    """Put letters back into their lanes, each once."""
    what = _job(asked, serving)
    _require_audit(serving)

    def run(job: Job) -> bool:
        def note(progress: Progress) -> None:
            job.done, job.total = progress.done, progress.total

        report = run_replay(
            serving.connection, serving.names, what, who=caller.name, via="api", per_s=asked.per_s or None,
            control=job.control, on_progress=note, timeout_s=serving.timeout_s,
        )  # fmt: skip
        job.done = report.count
        return report.ended

    return said(serving.jobs.start(Job(what.id, "replay", caller.name), run), 202)


@router.post("/purge", status_code=202, responses=answers(JobItem, 400, 409, status=202))
def purge(asked: Purge, serving: Served, caller: Operator) -> Response:
    """Purge letters: nobody sees or replays them any more."""
    wanted = asked.filter(serving, replayed=False)
    what = new_job(serving.connection, serving.names, wanted, timeout_s=serving.timeout_s, loops=0)
    _require_audit(serving)
    count = plan_replay(serving.connection, serving.names, what, timeout_s=serving.timeout_s).count
    if count != asked.count:
        raise HTTPException(409, f"{count} letters fit, not {asked.count}: nothing was purged")

    def run(job: Job) -> bool:
        def note(done: int) -> None:
            job.done, job.total = done, count

        purged = purge_letters(
            serving.connection, serving.names, what, who=caller.name, via="api", on_progress=note,
            timeout_s=serving.timeout_s,
        )  # fmt: skip
        job.done = purged.count
        return True

    return said(serving.jobs.start(Job(what.id, "purge", caller.name), run), 202)


@router.get("/jobs", responses=answers(JobList))
def jobs(serving: Served, _: Viewer) -> Response:
    """The jobs that this monitor ran since it was started."""
    return said(JobList(serving.jobs.all()))


@router.get("/jobs/{job_id}", responses=answers(JobItem, 404))
def job(job_id: str, serving: Served, _: Viewer) -> Response:
    """How far a job is."""
    return said(serving.jobs.get(job_id).item)


@router.post("/jobs/{job_id}/{verb}", responses=answers(JobItem, 404, 409))
def steer(job_id: str, verb: Literal["pause", "resume", "stop"], serving: Served, _: Operator) -> Response:
    """Pause a job, let it go on, or stop it between two transactions."""
    found = serving.jobs.get(job_id)
    if found.action == "purge":
        raise HTTPException(409, "a purge is not paused or stopped")
    getattr(found.control, verb)()
    return said(found.item)


def _sent(planned: replay_job.Planned) -> Sent:
    letter = planned.letter
    before, after = (
        payload[:_FIRST_BYTES].decode("utf-8", "backslashreplace") for payload in (letter.payload, planned.payload)
    )
    return Sent(letter=letter.place, task_id=letter.task_id, to=planned.to, before=before, after=after)


def _job(asked: Replay, serving: Serving) -> ReplayJob:
    how = How(
        edit=Edit(asked.edit.kind, asked.edit.text) if asked.edit else None,
        again=asked.again,
        loops=asked.loops,
        limit=asked.limit,
        skip_unfit=asked.skip_unfit,
    )
    wanted = asked.filter(serving, replayed=asked.again)
    return new_job(serving.connection, serving.names, wanted, timeout_s=serving.timeout_s, **how)


def _require_audit(serving: Serving) -> None:
    """An action that nobody could be named for is refused at once, rather than by its job."""
    names = serving.names
    if names.audit not in serving.topics():
        raise HTTPException(
            409, f"topic {names.audit} is not there, and what cannot be told is not done: "
            f"`fairlane topics create --queue {names.queue}` makes it"
        )  # fmt: skip
