"""What operators ask of the workers: cancel tasks, pause and resume, weigh lanes, and what is in force.

Invariant: everything that acts needs an operator, goes through the one `Controller` that the commands and
`app.control` use, by the name of the token, and is answered when Kafka has acknowledged it and its record of the audit.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from fairlane.monitor.api.answers import answers, said
from fairlane.monitor.api.parameters import Limit
from fairlane.monitor.api.serving import Operator, Served, Serving, Viewer
from fairlane.monitor.api.tokens import Caller
from fairlane.monitor.control import CancelAnswer, Controller
from fairlane.topics.clock import now_ms
from fairlane.topics.control import REASON_MAX, ControlRecord
from fairlane.topics.headers import MAX_NAME
from fairlane.topics.names import Lane

router = APIRouter(prefix="/control", tags=["control"])

MOST_IDS: Final = 10_000
_LONGEST_MS: Final = 10 * 365 * 86_400_000


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the workers, the first of `count`: pauses first, cancels that wait for their tasks last."""

    count: int
    records: tuple[ControlRecord, ...]


class Cancelled(msgspec.Struct, frozen=True):
    """What was found of each task when it was cancelled, in the order of the ids."""

    answers: tuple[CancelAnswer, ...]


class Asking(BaseModel):
    """What an operator asks, and why: for whoever looks later."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=REASON_MAX)


class Cancel(Asking):
    """Cancel tasks: one that waits never runs, one that runs is cut off."""

    ids: list[Annotated[str, Field(min_length=1, max_length=MAX_NAME)]] = Field(min_length=1, max_length=MOST_IDS)


class Lasting(Asking):
    """What an operator asks until it is taken back, or for a time."""

    until_ms: int = Field(0, ge=0, lt=2**53, description="it ends by itself then")
    for_ms: int = Field(0, ge=0, le=_LONGEST_MS, description="or after so long")

    def ends_ms(self) -> int:
        """When it ends by itself, Unix ms; 0 is not before it is taken back."""
        if self.until_ms and self.for_ms:
            raise HTTPException(400, "both until_ms and for_ms are given: give one of them")
        return now_ms() + self.for_ms if self.for_ms else self.until_ms


class Resume(Asking):
    """Let a lane, or the whole queue, go on."""

    lane: str = Field("", max_length=300, description="its topic, or its name in the queue (p3); nothing is the queue")


class Pause(Resume, Lasting):
    """Start nothing more of a lane, or of the whole queue, until it is resumed, or for a time; what runs goes on."""


class Weigh(Lasting):
    """Give lanes other weights than workers are configured with."""

    weights: dict[str, int] = Field(min_length=1, max_length=100, description="by lane: 1 to 10,000")


class Unweigh(Asking):
    """Give lanes the weights again that workers are configured with."""

    lanes: list[str] = Field([], max_length=100, description="none are all that have another weight")


@router.get("", responses=answers(InForce, 409))
def in_force(
    serving: Served,
    caller: Viewer,
    kind: Annotated[
        str, Query(max_length=32, description="`pause`, `weight`, `kill`, `demote`, `cancel`; all by default")
    ] = "",
    limit: Limit = 100,
) -> Response:
    """What is in force, read from Kafka; the audit has the history."""
    found = [each for each in _controller(serving, caller).in_force() if kind in ("", each.kind)]
    return said(InForce(count=len(found), records=tuple(found[:limit])))


@router.post("/cancel", responses=answers(Cancelled, 400, 409))
def cancel(asked: Cancel, serving: Served, caller: Operator) -> Response:
    """Cancel one task or many."""
    return said(Cancelled(tuple(_controller(serving, caller).cancel(asked.ids, reason=asked.reason))))


@router.post("/pause", responses=answers(ControlRecord, 400, 409))
def pause(asked: Pause, serving: Served, caller: Operator) -> Response:
    """Pause a lane, or the queue."""
    until_ms = asked.ends_ms()
    return said(_controller(serving, caller).pause(asked.lane, until_ms=until_ms, reason=asked.reason))


@router.post("/resume", responses=answers(InForce, 400, 409))
def resume(asked: Resume, serving: Served, caller: Operator) -> Response:
    """Take a pause back; says which pauses are still in force: a lane's own outlives that of the queue."""
    left = _controller(serving, caller).resume(asked.lane, reason=asked.reason)
    return said(InForce(count=len(left), records=left))


@router.post("/weigh", responses=answers(InForce, 400, 409))
def weigh(asked: Weigh, serving: Served, caller: Operator) -> Response:
    """Give lanes other weights; says those."""
    until_ms = asked.ends_ms()
    found = _controller(serving, caller).weigh(asked.weights, until_ms=until_ms, reason=asked.reason)
    return said(InForce(count=len(found), records=found))


@router.post("/unweigh", responses=answers(InForce, 400, 409))
def unweigh(asked: Unweigh, serving: Served, caller: Operator) -> Response:
    """Take weights back; says which."""
    found = _controller(serving, caller).unweigh(asked.lanes, reason=asked.reason)
    return said(InForce(count=len(found), records=found))


def _controller(serving: Serving, caller: Caller) -> Controller:
    lanes = [Lane(each.topic, each.level, max(1, each.weight)) for each in serving.look().stats.lanes]
    return Controller(serving.connection, serving.names, lanes, who=caller.name, via="api", timeout_s=serving.timeout_s)
