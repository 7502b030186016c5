"""Taking tasks one by one: dequeue, ack, nack, over the same reader, feed and settler that a worker runs on.

Invariant: a task that was dequeued is open until it is acknowledged or given back; one whose caller dies is delivered
to somebody else. What is open is a record, not an id: two records with one id are two tasks. The lock makes whoever
holds it the driver of the feed.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from fairlane.consumer.attempt_span import AttemptSpans, with_span
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.control import Control
from fairlane.consumer.control_state import cancel_of
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.engine import Engine
from fairlane.consumer.outcome import Cancelled, Completed, Dead, Expired, Outcome
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.signals import RetryLater
from fairlane.consumer.verdict import TaskExpired, failed
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import TaskFailed, UsageError
from fairlane.topics.task import Task
from fairlane.topics.tracing import Processing

SETTLE_TIMEOUT_S: Final = 30.0


class Nacked(Exception):
    """What a task that was given back without an error failed with."""


class _Open(NamedTuple):
    """A task that the caller has: since when (Unix ms), and the span that ends with it."""

    delivery: Delivery
    since_ms: int
    processing: Processing


class Pull:
    """A member of the queue's consumer group whose tasks the caller runs.

    Args:
        config: of the worker that this is; its concurrency bounds the tasks that are open at once.
        retry: what becomes of a task that is given back.
    """

    def __init__(self, config: WorkerConfig, retry: RetryPolicy) -> None:
        self._config = config
        self._retry = retry
        self._spans = AttemptSpans(config)
        self._changed = threading.Condition()
        self._engine = Engine(
            config,
            {},
            wake=self._wake,
            on_crash=self._crashed,
            on_settled=self._settled,
            attempts_max=retry.max_attempts,
        )
        self._control = Control(config, on_orders=self._engine.obey, on_cancelled=lambda _: None)
        """What is open is its caller's: of that nothing is cancelled."""
        self._open: defaultdict[str, deque[_Open]] = defaultdict(deque)
        self._settling: dict[tuple[Assigned, int], Outcome | None] = {}
        """By record, what somebody waits for, and what was settled of it."""
        self._crash: BaseException | None = None
        self._starting = threading.Lock()
        self._follows = self._started = False

    def dequeue(self, timeout_s: float) -> Task | None:
        """The next task to run, by priority and weight; None if none came in time.

        Args:
            timeout_s: how long to wait, seconds.
        """
        ends_at = time.monotonic() + timeout_s
        if not self._start(ends_at):
            return None
        with self._changed:
            while True:
                self._raise_crash()
                moment_ms = now_ms()
                self._engine.feed.refresh(moment_ms)
                delivery = self._next(moment_ms)
                if delivery is not None:
                    self._open[delivery.task.id].append(_Open(delivery, moment_ms, self._spans.of(delivery)))
                    return delivery.task
                left_s = ends_at - time.monotonic()
                if left_s <= 0:
                    return None
                due_ms = self._engine.feed.next_due_ms
                nap_s = 0.1 if due_ms is None else max(0.001, min(0.1, (due_ms - moment_ms) / 1000))
                self._changed.wait(min(left_s, nap_s))

    def ack(self, task_id: str, result: Any = None) -> None:
        """The task is done; returns when its result and its offset are in Kafka.

        Args:
            task_id: of a task that was dequeued here; the first one, if several of this id are open.
            result: anything that JSON can say.

        Raises:
            UsageError: the task is not open here, or the result is no JSON or larger than a result may be: then the
                task is still open.
            TaskFailed: Kafka refused the result: the task is dead, for the reason that is said.
        """
        try:
            encoded = msgspec.json.encode(result)
        except TypeError as error:
            raise UsageError(f"the result of task {task_id} is no JSON: {error}", "Return what JSON can say") from error
        limit = self._config.result_max_bytes
        if len(encoded) > limit:
            raise UsageError(
                f"the result of task {task_id} has {len(encoded)} bytes, the limit is {limit}",
                "Store it elsewhere and acknowledge with a reference to it, or raise result_max_bytes",
            )
        delivery, started_ms, processing = self._take_open(task_id)
        processing.end()
        self._settle(delivery, with_span(Completed(delivery, started_ms, now_ms(), encoded), processing))

    def nack(self, task_id: str, delay_s: float | None = None, error: str | None = None) -> None:
        """The attempt failed: the task is retried, or dead after its last attempt; returns when that is in Kafka.

        Args:
            task_id: of a task that was dequeued here.
            delay_s: how long it waits, seconds; None leaves it to the retry policy.
            error: what went wrong.

        Raises:
            UsageError: the task is not open here.
        """
        delivery, started_ms, processing = self._take_open(task_id)
        cause = Nacked(error or "given back") if delay_s is None else RetryLater(delay_s, error or "given back")
        unit = random.random()  # noqa: S311 - jitter, not secrecy
        outcome = failed(delivery, self._retry, cause, started_ms=started_ms, now_ms=now_ms(), unit=unit)
        processing.end(cause)
        self._settle(delivery, with_span(outcome, processing))

    def close(self, timeout_s: float = 10.0) -> None:
        """Leave the group; tasks that are still open are delivered to somebody else."""
        with self._changed:
            for delivery, _, processing in [each for same_id in self._open.values() for each in same_id]:
                processing.happened("handed back")
                processing.end()
                self._engine.feed.done(delivery, now_ms())
            self._open.clear()
        if self._started:
            self._engine.stop(timeout_s)
        self._control.stop(2.0)

    @property
    def open(self) -> int:
        """Tasks that were dequeued and are neither acknowledged nor given back."""
        return sum(map(len, self._open.values()))

    def _start(self, ends_at: float) -> bool:
        """Join the group once it is known what operators ask; whether that is done by then, on the monotonic clock."""
        # Under a lock of its own: who tells what is paused wakes us, which takes the other one.
        with self._starting:
            if not self._follows:
                self._follows = True
                self._control.start()
            if not self._started and self._control.wait_known(lambda: time.monotonic() >= ends_at):
                self._engine.start()
                self._started = True
            return self._started

    def _next(self, moment_ms: int) -> Delivery | None:
        """The next task that is still worth a start."""
        feed = self._engine.feed
        while started := feed.take(min(1, self._config.concurrency - self.open)):
            (delivery,) = started
            cancels = self._control.cancels
            if cancels and (cancel := cancel_of(cancels, delivery.task)) is not None:
                with self._spans.of(delivery) as processing:
                    processing.happened("cancelled")
                self._engine.settler.post(with_span(Cancelled(delivery, 0, moment_ms, cancel.why), processing))
                feed.done(delivery, moment_ms)
                continue
            late_ms = moment_ms - delivery.task.expires_ms
            if not delivery.task.expires_ms or late_ms < 0:
                return delivery
            with self._spans.of(delivery) as processing:
                processing.failed(TaskExpired(late_ms))
            self._engine.settler.post(with_span(Expired(delivery, moment_ms), processing))
            feed.done(delivery, moment_ms)
        return None

    def _take_open(self, task_id: str) -> _Open:
        with self._changed:
            self._raise_crash()
            same_id = self._open.get(task_id)
            if not same_id:
                raise UsageError(f"task {task_id} is not open here", "Acknowledge a task once, where it was dequeued")
            found = same_id.popleft()
            if not same_id:
                del self._open[task_id]
        return found

    def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        record = (delivery.assigned, delivery.offset)
        with self._changed:
            self._settling[record] = None
            self._engine.settler.post(outcome)
            self._engine.feed.done(delivery, now_ms())
            self._changed.wait_for(lambda: self._settling[record] or self._crash, SETTLE_TIMEOUT_S)
            settled = self._settling.pop(record)
            self._raise_crash()
        if settled is None:
            raise TimeoutError(f"task {delivery.task.id} was not settled within {SETTLE_TIMEOUT_S:g} s")
        if isinstance(outcome, Completed) and isinstance(settled, Dead):
            error = settled.error
            words = (error.type, error.message) if error is not None else ()
            raise TaskFailed(delivery.task.id, "failed", settled.reason, *words)

    def _settled(self, outcomes: Sequence[Outcome]) -> None:
        self._control.settled(outcomes)
        with self._changed:
            for outcome in outcomes:
                record = (outcome.delivery.assigned, outcome.delivery.offset)
                if record in self._settling:
                    self._settling[record] = outcome
            self._changed.notify_all()

    def _wake(self) -> None:
        # Whoever brings something new drives the feed: a revocation must not wait for the caller's next dequeue.
        with self._changed:
            self._engine.feed.refresh(now_ms())
            self._changed.notify_all()

    def _crashed(self, error: BaseException) -> None:
        with self._changed:
            self._crash = error
            self._changed.notify_all()

    def _raise_crash(self) -> None:
        if self._crash is not None:
            raise self._crash
