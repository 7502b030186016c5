"""A call of a task that was not made yet: what `some_task.call(…)` returns.

Invariant: it is frozen and complete but for id and time, which it gets when it is enqueued; so it may be kept, enqueued
twice (as two tasks), or given to a context to be enqueued with the outcome of the task that runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fairlane.producer import Parcel
from fairlane.task_options import Terms
from fairlane.topics.clock import now_ms
from fairlane.topics.ids import new_id
from fairlane.topics.task import Task

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[R_co]):
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

    def to_task(self) -> Task:
        """The task, complete with id and lane, as of now."""
        terms = self.terms
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
        """The task with what its producer wants to hear of it."""
        return Parcel(self.to_task(), self.load, self.terms.reply)
