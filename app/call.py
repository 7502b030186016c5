"""A call of a task that was not made yet: what `some_task.call(…)` returns.

Invariant: it is frozen and complete but for id and time, which it gets when it is enqueued; so it may be kept, enqueued
twice (as two tasks), or given to a context to be enqueued with the outcome of the task that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import msgspec
from msgspec.structs import replace

from fairlane.producer import Parcel
from fairlane.task_options import Terms
from fairlane.topics.clock import now_ms
from fairlane.topics.ids import new_id
from fairlane.topics.task import Task

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Call(msgspec.Struct, Generic[R_co], frozen=True, gc=False):
    """A task type, a payload that fits it, and the terms.

    Attributes:
        type: the task type.
        payload: the payload's bytes.
        content_type: media type of the payload.
        terms: how it is enqueued.
        source: who enqueues, for `ce_source`.
        load: reads its result.
    """

    type: str
    payload: bytes
    content_type: str
    terms: Terms
    source: str
    load: Callable[[bytes], R_co]

    def to_task(self, moment_ms: int | None = None) -> Task:
        """The task, complete with id and lane.

        Args:
            moment_ms: when it is enqueued, Unix ms; now by default.
        """
        terms = self.terms
        if moment_ms is None:
            moment_ms = now_ms()
        return Task(
            id=terms.id or new_id(),
            type=self.type,
            payload=self.payload,
            content_type=self.content_type,
            priority=terms.lane.level,
            max_attempts=terms.max_attempts,
            not_before_ms=moment_ms + round(terms.delay_s * 1000) if terms.delay_s else 0,
            expires_ms=moment_ms + round(terms.expires_s * 1000) if terms.expires_s else 0,
            timeout_ms=max(1, round(terms.timeout_s * 1000)) if terms.timeout_s else 0,
            enqueued_ms=moment_ms,
            lane=terms.lane.topic,
            source=self.source,
            key=terms.key,
            value=self.payload,
        )

    def parcel(self) -> Parcel[R_co]:
        """The task with what its producer wants to hear of it, as of now."""
        return Parcel(self.to_task(), self.load, self.terms.reply)


def parcels(calls: Iterable[Call[R]]) -> list[Parcel[R]]:
    """Calls that are enqueued together: at one moment, once all of them are there."""
    all_of_them = list(calls)
    moment_ms = now_ms()
    made: list[Parcel[R]] = []
    before: Call[R] | None = None
    like: Task | None = None
    for call in all_of_them:
        terms, payload = call.terms, call.payload
        # Most are of one task under one set of options: then these are the same objects.
        if (
            like is None
            or before is None
            or terms is not before.terms
            or call.type is not before.type
            or call.source is not before.source
            or call.content_type is not before.content_type
        ):
            like = task = call.to_task(moment_ms)
        else:
            task = replace(like, id=terms.id or new_id(), payload=payload, value=payload)
        made.append(Parcel(task, call.load, terms.reply, like))
        before = call
    return made
