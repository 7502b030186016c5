"""Tasks that are sent together, and the answers that Kafka gives about them.

Invariant: every task of a shipment gets exactly one answer, a place or an error; when the last one has, and the sender
has sealed it, `done` is set, once. The span of a task that is traced ends with its answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span

from fairlane.producer.space import Space
from fairlane.topics import tracing
from fairlane.topics.errors import FairlaneError
from fairlane.topics.task import Task

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

Place = tuple[int, int]
"""Partition and offset of a record."""

Translate = Callable[["KafkaError", Task, str], FairlaneError]
"""From Kafka's error about a task on a topic to fairlane's."""


class Shipment:
    """What became of each of `tasks`.

    Attributes:
        tasks: what is sent, in order; each may be replaced until it is handed over.
        topics: the topic of each.
        places: where each is, None while it is not known to be there.
        errors: why a task is not there, by its index.
        handed: how many, from the first on, were given to librdkafka, which reports on each.
        done: set when every task has its answer.
    """

    __slots__ = (
        "_lock",
        "_open",
        "_space",
        "_spans",
        "_translate",
        "done",
        "errors",
        "handed",
        "places",
        "tasks",
        "topics",
    )

    def __init__(self, tasks: list[Task], topics: Sequence[str], translate: Translate, space: Space) -> None:
        self.tasks = tasks
        self.topics = topics
        self.places: list[Place | None] = [None] * len(tasks)
        self.errors: dict[int, FairlaneError] = {}
        self.handed = 0
        self.done: Future[None] = Future()
        self._spans: dict[int, Span] = {}
        self._translate = translate
        self._space = space
        self._lock = threading.Lock()
        # One more than there are tasks: the sender's own, so that a quick answer does not end what is still being sent.
        self._open = len(tasks) + 1

    def trace(self, index: int) -> None:
        """Give the task at `index` the context to carry, and a `send` span where it is sampled."""
        self.tasks[index], span = tracing.start_send(self.tasks[index], self.topics[index])
        if span is not None:
            self._spans[index] = span

    def give_up(self, error: BaseException) -> None:
        """The sender ends early, for this reason. What was handed over by then has its answers still to come."""
        for index in sorted(self._spans):
            if index >= self.handed:
                tracing.end_send(self._spans.pop(index), error=error)

    def reporter(self, index: int) -> Callable[[Any, Any], None]:
        """The delivery callback of the task at `index`."""
        return partial(self._reported, index)

    def fail(self, index: int, error: FairlaneError) -> None:
        """Say that the task at `index` was not handed over."""
        self.errors[index] = error
        self.end_span(index)
        self._answered()

    def seal(self) -> None:
        """Say that everything is handed over, or failed."""
        self._answered()

    def _reported(self, index: int, error: KafkaError | None, message: Message) -> None:
        if self._space.wanted:
            self._space.left()
        if error is None:
            self.places[index] = (message.partition() or 0, message.offset() or 0)
        else:
            self.errors[index] = self._translate(error, self.tasks[index], self.topics[index])
        self.end_span(index)
        self._answered()

    def end_span(self, index: int) -> None:
        """End the span of the task at `index`, if it has one, as what is known of it says."""
        span = self._spans.pop(index, None) if self._spans else None
        if span is not None:
            partition, offset = self.places[index] or (-1, -1)
            tracing.end_send(span, partition=partition, offset=offset, error=self.errors.get(index))

    def _answered(self) -> None:
        with self._lock:
            self._open -= 1
            last = self._open == 0
        # A cancelled waiter has given up on the answer, not on the task.
        if last and self.done.set_running_or_notify_cancel():
            self.done.set_result(None)
