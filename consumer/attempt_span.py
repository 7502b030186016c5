"""The `process` span of a delivery, and its place in the outcome.

Invariant: whatever ends a task, or an attempt of it, has a span in the task's trace, if that is sampled: a handler that
ran, but also a task that nobody here could run, that had expired, or whose workers died. What only goes on to the next
tier has none.
"""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import replace

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.outcome import Cancelled, Completed, Dead, Expired, HandedBack, Outcome, Retrying
from fairlane.topics import tracing

Attempted = Completed | Retrying | Dead | Expired | Cancelled | HandedBack
A = TypeVar("A", bound=Outcome)


class AttemptSpans:
    """Makes the spans of one worker.

    Args:
        config: of the worker.
    """

    __slots__ = ("_group", "_worker")

    def __init__(self, config: WorkerConfig) -> None:
        self._group = config.names.group
        self._worker = config.worker

    def of(self, delivery: Delivery) -> tracing.Processing:
        """The span of what is about to be done with a delivery, as a context manager."""
        task = delivery.task
        if not task.traceparent and not tracing.has_tracer():
            return tracing.UNTRACED
        assigned = delivery.assigned
        return tracing.process(
            task,
            topic=assigned.topic,
            partition=assigned.partition,
            offset=delivery.offset,
            group=self._group,
            client_id=self._worker,
        )


def with_span(outcome: A, processing: tracing.Processing) -> A:
    """The outcome with its span, for its settlement to link to.

    A trace that this attempt began is in the task from here on: in its next attempt, and in its letter.
    """
    traceparent = processing.traceparent
    if not traceparent or not isinstance(outcome, Attempted):
        return outcome
    delivery = outcome.delivery
    task = tracing.begun(delivery.task, traceparent)
    if task is not delivery.task:
        delivery = replace(delivery, task=task)
        if isinstance(outcome, Retrying):
            again = tracing.begun(outcome.task, traceparent)
            return replace(outcome, delivery=delivery, traceparent=traceparent, task=again)
    return replace(outcome, delivery=delivery, traceparent=traceparent)
