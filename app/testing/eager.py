"""Eager mode: what an app enqueues runs at once, in this process, with its retries, without Kafka and without waiting.

Invariant: a task goes the way it goes in production, as far as it can without a broker: its arguments become bytes, the
bytes and headers a record, the record a task, and an attempt of that task an outcome, by the same code. Time that would
be waited is skipped: the task's own times are moved by it instead of the clock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import partial
from itertools import groupby, islice
from types import TracebackType
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from fairlane.app import Fairlane
from fairlane.consumer.attempt import Attempts
from fairlane.consumer.batch_attempt import BatchAttempts
from fairlane.consumer.batch_context import BatchContext
from fairlane.consumer.context import Context
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.outcome import Completed, Dead, Outcome, Retrying
from fairlane.consumer.threads import Interrupted, Threads
from fairlane.producer import Parcel, TaskHandle, from_json
from fairlane.producer.handle import Trail
from fairlane.sender import Sender
from fairlane.testing.driving import Loop
from fairlane.testing.run import Attempt, Run, Runs
from fairlane.topics import wire
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import ResultTimeout, TaskTooLarge, TaskUnknown, UsageError
from fairlane.topics.events import StatusEvent
from fairlane.topics.task import Task
from fairlane.working import worker_config

R = TypeVar("R")

MAX_RUNS: Final = 1_000
MAX_DEPTH: Final = 20
_MAX_BYTES: Final = 1_000_000
"""What a producer takes by default (message.max.bytes)."""

_depth: ContextVar[int] = ContextVar("fairlane.testing.depth", default=0)
_current: ContextVar[Run | None] = ContextVar("fairlane.testing.current", default=None)
_raised: ContextVar[dict[int, BaseException]] = ContextVar("fairlane.testing.raised")
"""What an attempt failed with, by the `id` of its task."""


class eager:  # noqa: N801 - reads as the verb that it is: `with eager(app) as runs`
    """Have an app run at once what it enqueues: `with eager(app) as runs:`, or `async with`.

    `async def` handlers run on the loop of an `async with`, else on one that the block makes; `def` handlers run on the
    thread that enqueues (on one of their own where it awaits). The app's lifespan is entered, and its middleware wraps.

    Args:
        app: the app.
        raise_failures: raise TaskFailed from `enqueue` when a task is dead, with the handler's exception as its cause,
            rather than leave it to whoever asks for the result.
        max_runs: after how many tasks it is an error: a task that enqueues itself for ever has to be stopped.

    Returns:
        What became of every task, in the order in which they were enqueued, by `as`.
    """

    def __init__(self, app: Fairlane, *, raise_failures: bool = False, max_runs: int = MAX_RUNS) -> None:
        self._app = app
        self._raise_failures = raise_failures
        self._max_runs = max_runs
        self._stack = AsyncExitStack()
        self._leave: Callable[[], None] | None = None
        self._loop = Loop()
        self._before: Sender | None = None

    async def __aenter__(self) -> Runs:
        self._loop = Loop(asyncio.get_running_loop())
        if self._app.lifespan is not None:
            await self._stack.enter_async_context(self._app.lifespan())
        return self._stand_in()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._app.stand_in(self._before)
        # As in a worker, it ends when the tasks have, not because of them.
        await self._stack.aclose()

    def __enter__(self) -> Runs:
        if self._app.lifespan is not None:
            self._leave = self._loop.hold(self._app.lifespan())
        return self._stand_in()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._app.stand_in(self._before)
        try:
            if self._leave is not None:
                self._leave()
        finally:
            self._loop.close()

    def _stand_in(self) -> Runs:
        sender = EagerSender(self._app, self._loop, self._max_runs, raise_failures=self._raise_failures)
        self._before = self._app.stand_in(sender)
        return sender.runs


class EagerSender:
    """Takes tasks from an app in place of its producer, and runs them."""

    def __init__(self, app: Fairlane, loop: Loop, max_runs: int, *, raise_failures: bool) -> None:
        self.runs = Runs()
        self._app = app
        self._loop = loop
        self._max_runs = max_runs
        self._raise_failures = raise_failures
        self._config = worker_config(app.names, app.settings, lanes=app.lanes)
        self._lanes = {lane.topic: lane for lane in app.lanes}
        self._tiers = frozenset(self._config.tier_of())

    def enqueue(self, parcel: Parcel[R]) -> TaskHandle[R]:
        """Run a task, now."""
        return self.enqueue_many([parcel])[0]

    async def aenqueue(self, parcel: Parcel[R]) -> TaskHandle[R]:
        """Run a task, now, on this event loop."""
        return (await self.aenqueue_many([parcel]))[0]

    def enqueue_many(self, parcels: Sequence[Parcel[R]]) -> list[TaskHandle[R]]:
        """Run tasks, now, one after the other; those that follow each other and run in batches, in one."""
        handles: list[TaskHandle[R]] = []
        for some in self._together(parcels):
            handles += self._handles(some, self._loop.run(partial(self._run, some)))
        return handles

    async def aenqueue_many(self, parcels: Sequence[Parcel[R]]) -> list[TaskHandle[R]]:
        """The same, on this event loop."""
        handles: list[TaskHandle[R]] = []
        threads = Threads()
        try:
            for some in self._together(parcels):
                handles += self._handles(some, await self._run(some, threads))
        finally:
            threads.close()
        return handles

    def _together(self, parcels: Sequence[Parcel[R]]) -> Iterator[list[Parcel[R]]]:
        for task_type, following in groupby(parcels, key=lambda parcel: parcel.task.type):
            handler = self._app.handlers.get(task_type)
            most = handler.batch.max_size if handler is not None and handler.batch is not None else 1
            while some := list(islice(following, most)):
                yield some

    def handle(self, task_id: str, load: Callable[[bytes], R]) -> TaskHandle[R]:
        """A handle for a task that was enqueued in this block."""
        return TaskHandle(Trail(task_id), EagerWatcher(self.runs, self._app.queue), load)

    def _handles(self, parcels: Sequence[Parcel[R]], runs: Sequence[Run]) -> list[TaskHandle[R]]:
        return [self._handle(run, parcel.load) for parcel, run in zip(parcels, runs, strict=True)]

    def _handle(self, run: Run, load: Callable[[bytes], R]) -> TaskHandle[R]:
        if self._raise_failures and run.state in ("failed", "expired"):
            _ = run.result
        trail = Trail(run.id, run.type, run.task.lane, 0, len(self.runs) - 1)
        return TaskHandle(trail, EagerWatcher(self.runs, self._app.queue), load)

    async def _run(self, parcels: Sequence[Parcel[Any]], threads: Threads) -> list[Run]:
        """Run a task, or a batch, and after it what it enqueued through its context, and so on."""
        depth = _depth.get()
        if depth >= MAX_DEPTH:
            raise UsageError(
                f"{MAX_DEPTH} tasks are enqueued within each other, the last one is {parcels[0].task.type!r}",
                "Eager mode runs each at once: enqueue with context().enqueue(…), which runs it afterwards",
            )
        first = [self._begin(parcel.task, parcel.load) for parcel in parcels]
        parent = _current.get()
        if parent is not None:
            parent.enqueued.extend(first)
        depth_token = _depth.set(depth + 1)
        try:
            left = deque([first])
            while left:
                left.extend([run] for run in await self._to_end(left.popleft(), threads))
            return first
        finally:
            _depth.reset(depth_token)

    def _begin(self, task: Task, load: Callable[[bytes], Any]) -> Run:
        if len(self.runs) >= self._max_runs:
            raise UsageError(
                f"{self._max_runs} tasks were enqueued, the last one is {task.type!r}",
                "If a task enqueues itself for ever, have the test stop it; else say eager(app, max_runs=…)",
            )
        if len(task.value) > _MAX_BYTES:
            raise TaskTooLarge(task.id, len(task.value), _MAX_BYTES)
        run = Run(self._as_read(task.value, task.key, wire.encode(task), task.lane), load)
        self.runs.add(run)
        return run

    def _as_read(
        self, value: bytes, key: bytes | None, headers: Iterable[tuple[str, bytes | None]], topic: str
    ) -> Task:
        """The task that a worker would read from the record."""
        lane = self._lanes.get(topic)
        level = lane.level if lane is not None else self._app.lanes[-1].level
        named = lane.topic if lane is not None else None
        offset = len(self.runs)
        return wire.decode(topic, 0, offset, now_ms(), key, value, list(headers), lane=named, priority=level)

    async def _to_end(self, runs: Sequence[Run], threads: Threads) -> list[Run]:
        """Run a task, or a batch, to its end; returns those that it enqueued with its outcomes, which come next."""
        if runs[0].type not in self._app.handlers:
            return []
        attempts = Attempts(self._config, self._app.handlers, (_remember_errors, *self._app.middleware), threads)
        tasks = [(run.task, max(0, run.task.not_before_ms - now_ms())) for run in runs]
        sent: list[Run] = []
        for run, first in zip(runs, await self._attempt(attempts, runs, tasks), strict=True):
            outcome = first
            while isinstance(outcome, Retrying):
                # Each has a time of its own when it is tried again, so it is alone then.
                waited_ms = max(0, outcome.task.not_before_ms - outcome.finished_ms)
                (outcome,) = await self._attempt(attempts, [run], [(outcome.task, waited_ms)])
            sent += self._settle(run, outcome)
        return sent

    async def _attempt(
        self, attempts: Attempts, runs: Sequence[Run], tasks: Sequence[tuple[Task, int]]
    ) -> Sequence[Outcome]:
        """Make one attempt at each, after it was waited for so many ms."""
        deliveries = [
            Delivery(_later(task, waited_ms), Assigned(task.lane, 0, 1), len(run.attempts), task.lane, 0)
            for run, (task, waited_ms) in zip(runs, tasks, strict=True)
        ]
        raised: dict[int, BaseException] = {}
        tokens = _raised.set(raised), _current.set(runs[0])
        try:
            if self._app.handlers[runs[0].type].batch is None:
                outcomes: Sequence[Outcome] = [await attempts.run(deliveries[0])]
            else:
                outcomes = await BatchAttempts(self._config, self._app.handlers, attempts).run(deliveries)
        finally:
            _raised.reset(tokens[0])
            _current.reset(tokens[1])
        for run, delivery, (_, waited_ms), outcome in zip(runs, deliveries, tasks, outcomes, strict=True):
            error = raised.get(id(delivery.task))
            told = _told(error, outcome) if error is not None else None
            run.attempts.append(Attempt(delivery.task.attempt, waited_ms / 1000, outcome, told))
        return outcomes

    def _settle(self, run: Run, outcome: Outcome) -> list[Run]:
        sent = []
        for record in outcome.outbox if isinstance(outcome, Completed) else ():
            if record.topic in self._lanes or record.topic in self._tiers:
                task = self._as_read(record.value or b"", record.key, record.headers, record.topic)
                handler = self._app.handlers.get(task.type)
                sent.append(self._begin(task, handler.signature.load_result if handler is not None else from_json))
            else:
                run.emitted.append(record)
        run.enqueued.extend(sent)
        return sent


async def _remember_errors(context: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
    raised = _raised.get()
    try:
        returned = await call_next()
    except BaseException as error:
        raised.update((id(one.task), error) for one in context.each)
        raise
    if isinstance(context, BatchContext) and isinstance(returned, list | tuple):
        for one, result in zip(context.each, returned, strict=False):
            if isinstance(result, BaseException):
                raised[id(one.task)] = result
    return returned


def _told(error: BaseException, outcome: Outcome) -> BaseException:
    """The error of an attempt: what the handler raised, or that its time was up, which it saw as a cancellation."""
    if isinstance(error, asyncio.CancelledError | Interrupted) and isinstance(outcome, Retrying | Dead):
        return TimeoutError(outcome.error.message if outcome.error is not None else "")
    return error


def _later(task: Task, waited_ms: int) -> Task:
    """The task as it is after a wait: all that was to come is so much nearer, all that was so much longer ago."""
    return replace(
        task,
        not_before_ms=0,
        expires_ms=task.expires_ms - waited_ms if task.expires_ms else 0,
        enqueued_ms=task.enqueued_ms - waited_ms,
        first_failed_ms=task.first_failed_ms - waited_ms if task.first_failed_ms else 0,
    )


class EagerWatcher:
    """Answers what handles ask, of what ran already."""

    def __init__(self, runs: Runs, queue: str) -> None:
        self._runs = runs
        self._queue = queue

    def status(self, trail: Trail) -> StatusEvent:
        """The newest that is known of the task."""
        return self._find(trail).status()

    async def astatus(self, trail: Trail) -> StatusEvent:
        """The same, for async code."""
        return self.status(trail)

    def end(self, trail: Trail, timeout_s: float) -> StatusEvent:
        """The event of the task's completion."""
        run = self._find(trail)
        outcome = run.attempts[-1].outcome if run.attempts else None
        if run.state in ("pending", "running"):
            raise ResultTimeout(run.id, timeout_s)
        if not isinstance(outcome, Completed):
            _ = run.result
        assert isinstance(outcome, Completed)
        return replace(run.status(), result=msgspec.Raw(outcome.result))

    async def aend(self, trail: Trail, timeout_s: float) -> StatusEvent:
        """The same, for async code."""
        return self.end(trail, timeout_s)

    def _find(self, trail: Trail) -> Run:
        run = self._runs.find(trail.id)
        if run is None:
            raise TaskUnknown(trail.id, self._queue)
        return run
