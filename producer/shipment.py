"""Tasks that are sent together, and the answers that Kafka gives about them.

Invariant: every task of a shipment gets exactly one answer, a place or an error; when the last one has, and the sender
has sealed it, `done` is set, once. The span of a task that is traced ends with its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.trace import Span

from fairlane.producer.space import Space
from fairlane.topics import tracing
from fairlane.topics.errors import FairlaneError
from fairlane.topics.task import Task

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

Translate = Callable[["KafkaError", Task, str], FairlaneError]
"""From Kafka's error about a task on a topic to fairlane's."""


class Shipment:
    """What became of each of `tasks`.

    Attributes:
        tasks: what is sent, in order; each may be changed until it is handed over.
        likes: of each, a task that it differs from in id, payload and value only; None where there is none.
        topics: the topic of each.
        partitions: the partition that each goes to, -1 where librdkafka chooses it and has not said yet.
        offsets: the offset of each, None while it is not known to be there.
        errors: why a task is not there, by its index.
        handed: how many, from the first on, were given to librdkafka, which reports on each.
        spans: of the tasks that are traced, by index, until they end.
        translate: makes fairlane's error of Kafka's.
        space: is told of every record that leaves the buffer.
        done: set when every task has its answer.
    """

    __slots__ = (
        "_open",
        "done",
        "errors",
        "handed",
        "likes",
        "offsets",
        "partitions",
        "space",
        "spans",
        "tasks",
        "topics",
        "translate",
    )

    def __init__(
        self,
        tasks: list[Task],
        likes: list[Task | None],
        topics: Sequence[str],
        translate: Translate,
        space: Space,
    ) -> None:
        self.tasks = tasks
        self.likes = likes
        self.topics = topics
        self.partitions = [-1] * len(tasks)
        self.offsets: list[int | None] = [None] * len(tasks)
        self.errors: dict[int, FairlaneError] = {}
        self.handed = 0
        self.done: Future[None] = Future()
        self.spans: dict[int, Span] = {}
        self.translate = translate
        self.space = space
        # One more than there are tasks: the sender's own, so that a quick answer does not end what is still being sent.
        # Counted by a C iterator, whose step no other thread can come between: a lock would cost as much as the rest.
        self._open = iter(range(len(tasks), -1, -1))

    def change(self, index: int, task: Task) -> None:
        """Send another task at `index`."""
        if task is not self.tasks[index]:
            self.tasks[index], self.likes[index] = task, None

    def trace(self, index: int) -> None:
        """Give the task at `index` the context to carry, and a `send` span where it is sampled."""
        task, span = tracing.start_send(self.tasks[index], self.topics[index])
        self.change(index, task)
        if span is not None:
            self.spans[index] = span

    def give_up(self, error: BaseException) -> None:
        """The sender ends early, for this reason. What was handed over by then has its answers still to come."""
        for index in sorted(self.spans):
            if index >= self.handed:
                tracing.end_send(self.spans.pop(index), error=error)

    def fail(self, index: int, error: FairlaneError) -> None:
        """Say that the task at `index` is not there, or is not known to be."""
        self.errors[index] = error
        self.end_span(index)
        self.answered()

    def seal(self) -> None:
        """Say that everything is handed over, or failed."""
        self.answered()

    def end_span(self, index: int) -> None:
        """End the span of the task at `index`, if it has one, as what is known of it says."""
        span = self.spans.pop(index, None)
        if span is not None:
            offset = self.offsets[index]
            tracing.end_send(
                span,
                partition=self.partitions[index],
                offset=-1 if offset is None else offset,
                error=self.errors.get(index),
            )

    def answered(self) -> None:
        """One task more has its answer, or the sender is done."""
        # A cancelled waiter has given up on the answer, not on the task.
        if next(self._open, None) == 0 and self.done.set_running_or_notify_cancel():
            self.done.set_result(None)


class Report(msgspec.Struct, gc=False):
    """The delivery callback of the task at `index`: no work for the garbage collector, as a closure would be."""

    shipment: Shipment
    index: int

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        """Take it: what librdkafka calls."""
        shipment, index = self.shipment, self.index
        if shipment.space.wanted:
            shipment.space.left()
        if error is None:
            shipment.partitions[index] = message.partition() or 0
            shipment.offsets[index] = message.offset() or 0
            if shipment.spans:
                shipment.end_span(index)
            shipment.answered()
        else:
            shipment.fail(index, shipment.translate(error, shipment.tasks[index], shipment.topics[index]))
