"""The app: a queue, its task types, and the one producer of this process that enqueues them.

Invariant: making an app, and defining tasks, connects to nothing. The first enqueue does, in the process that makes it;
`close` ends it and names what did not arrive.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from fairlane.call import Call, parcels
from fairlane.consumer.handlers import Middleware
from fairlane.producer import TaskHandle, TaskProducer, fork, from_json
from fairlane.sender import Sender
from fairlane.settings import Settings
from fairlane.task_options import Options, Terms
from fairlane.task_registry import TaskRegistry
from fairlane.topics.clock import now_ms
from fairlane.topics.codec import Unfit, dump_any
from fairlane.topics.connection import Connection
from fairlane.topics.errors import InvalidPayload, PayloadError, ProducerClosed, UsageError
from fairlane.topics.events import StatusEvent
from fairlane.topics.names import DEFAULT_LEVEL, Lane, QueueNames, Tier
from fairlane.topics.routing import lane_for

if TYPE_CHECKING:
    from fairlane.operator import Operator

R = TypeVar("R")

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
"""Opens what handlers share, once per worker process: a function of an async context manager."""


class Fairlane(TaskRegistry):
    """A queue and its tasks: the front door.

    Args:
        queue: its name; all its topics derive from it.
        settings: where Kafka is and more; from the environment and `fairlane.toml` by default.
        lanes: in place of those of the settings; any existing topic can be one.
        lifespan: opens what handlers share, once per worker process.
        middleware: wraps every attempt, the first one outermost.

    Raises:
        UsageError: the name is none, a setting is wrong, or two lanes share a topic or a level.
    """

    def __init__(
        self,
        queue: str,
        *,
        settings: Settings | None = None,
        lanes: Iterable[Lane] | None = None,
        lifespan: Lifespan | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        super().__init__()
        self.names = QueueNames(queue)
        self.lifespan = lifespan
        self.middleware = tuple(middleware)
        self._own_lanes = tuple(lanes) if lanes is not None else None
        self._settings = Settings() if settings is None else settings
        self._lanes = self._find_lanes(self._settings)
        self._lock = threading.Lock()
        self._producer: TaskProducer | None = None
        self._stand_in: Sender | None = None
        self._closed = False
        fork.hold(self)

    def _find_lanes(self, settings: Settings) -> tuple[Lane, ...]:
        lanes = settings.lanes_of(self.names) if self._own_lanes is None else self._own_lanes
        if not lanes:
            raise UsageError(f"queue {self.queue!r} has no lanes", "Give at least one, or leave them out")
        for what in ("topic", "level"):
            seen = [getattr(lane, what) for lane in lanes]
            twice = [value for value in seen if seen.count(value) > 1]
            if twice:
                raise UsageError(f"two lanes have {what} {twice[0]!r}", "Give each lane its own")
        return tuple(sorted(lanes, key=lambda lane: -lane.level))

    @property
    def queue(self) -> str:
        """The queue's name."""
        return self.names.queue

    @property
    def settings(self) -> Settings:
        """The settings it was made with."""
        return self._settings

    @property
    def connection(self) -> Connection:
        """Where Kafka is and how to talk to it."""
        return self._settings.connection

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes of the queue, the most urgent first."""
        return self._lanes

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The fixed delays of the queue, the shortest first."""
        return self._settings.tiers

    def use_settings(self, settings: Settings) -> None:
        """Use other settings from now on: how a command's explicit options reach the app that it has imported.

        Raises:
            UsageError: the app has enqueued, or has defined tasks for other lanes, under the settings it had.
        """
        lanes = self._find_lanes(settings)
        with self._lock:
            if self._producer is not None:
                raise UsageError("the app has enqueued already", "Say the settings before the first task is enqueued")
            if lanes != self._lanes and self._tasks:
                raise UsageError("the app has defined tasks for other lanes", "Say the lanes when you make the app")
            self._lanes = lanes
            self._settings = settings

    def enqueue(self, type: str, payload: Any = None, **options: Unpack[Options]) -> TaskHandle[Any]:  # noqa: A002
        """Enqueue a task by the name of its type, whose handler may be anywhere.

        Args:
            type: the task type.
            payload: anything that has JSON, or bytes, which are sent as they are; nothing is `{}`.
            options: priority, key, delay_s, max_attempts, timeout_s, expires_s, id, reply; see `Options`.

        Returns:
            The handle; it loads the result by the handler's signature where the type is defined in this app.

        Raises:
            PayloadError: the payload has no JSON, or does not fit the handler, where the type is defined in this app.
            UsageError: an option does not exist, or its value is none that it can have.
            FairlaneError: others as in `enqueue` of a task.
        """
        return self.sender.enqueue(self.call(type, payload, **options).parcel())

    async def aenqueue(self, type: str, payload: Any = None, **options: Unpack[Options]) -> TaskHandle[Any]:  # noqa: A002
        """The same as `enqueue`, for async code."""
        return await self.sender.aenqueue(self.call(type, payload, **options).parcel())

    def call(self, type: str, payload: Any = None, **options: Unpack[Options]) -> Call[Any]:  # noqa: A002
        """A task by the name of its type as a value, for `enqueue_many` or the `enqueue` of a handler's context."""
        task = self._tasks.get(type)
        if task is not None:
            data = _payload(type, payload)
            try:
                task.handler.signature.load(data)
            except InvalidPayload as error:
                raise PayloadError("; ".join(error.errors), task_type=type) from None
            return task.options(**options).call_with(data)
        if not type or not type.isprintable():
            raise UsageError(f"{type!r} is no task type", "It is 1 or more printable characters")
        terms = Terms(lane_for(DEFAULT_LEVEL, self._lanes)).with_options(options, self._lanes)
        content_type = "application/octet-stream" if isinstance(payload, bytes) else "application/json"
        return Call(type, _payload(type, payload), content_type, terms, self.settings.source, from_json)

    def enqueue_many(self, calls: Iterable[Call[R]]) -> list[TaskHandle[R]]:
        """Enqueue many tasks, of any types, and wait once for all of them.

        Args:
            calls: what `some_task.call(…)`, `some_task.options(…).call(…)` and `app.call("type", …)` return.

        Returns:
            The handles, in order.

        Raises:
            SomeNotEnqueued: names those that arrived and those that did not, each with its error.
            KafkaUnreachable, QueueUnknown, ProducerClosed: nothing was sent.
        """
        return self.sender.enqueue_many(parcels(calls))

    async def aenqueue_many(self, calls: Iterable[Call[R]]) -> list[TaskHandle[R]]:
        """The same as `enqueue_many`, for async code."""
        return await self.sender.aenqueue_many(parcels(calls))

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """A handle for a task that was enqueued anywhere, for its status and its result as plain JSON."""
        return self.sender.handle(task_id, from_json)

    @property
    def control(self) -> Operator:
        """What an operator may ask of this queue's workers: cancel tasks, pause and resume lanes."""
        # Whoever only enqueues need not load what searches.
        from fairlane.operator import Operator

        return Operator(self)

    @property
    def sender(self) -> Sender:
        """Who takes the tasks."""
        if self._stand_in is not None:
            return self._stand_in
        if self._producer is None:
            with self._lock:
                if self._closed:
                    raise ProducerClosed
                if self._producer is None:
                    self._producer = TaskProducer(
                        self.connection,
                        self.names,
                        tiers=self.tiers,
                        enqueue_timeout_s=self.settings.enqueue_timeout_s,
                        lookup=self._look_up,
                    )
        return self._producer

    def stand_in(self, sender: Sender | None) -> Sender | None:
        """Have something take the tasks in place of the producer, for tests; None is the producer again.

        Returns:
            What did before.
        """
        before, self._stand_in = self._stand_in, sender
        return before

    def _look_up(self, task_id: str) -> StatusEvent:
        # Whoever only enqueues need not load what searches.
        from fairlane.task_status import status_of

        return status_of(self.connection, self.names, task_id, lanes=self.lanes, tiers=self.tiers, now_ms=now_ms())

    def close(self, timeout_s: float | None = None) -> None:
        """Wait for what is under way, and send nothing any more. A second call does nothing.

        Args:
            timeout_s: how long to wait, seconds; the enqueue timeout by default.

        Raises:
            TasksNotSent: names what did not arrive.
        """
        with self._lock:
            self._closed = True
        if self._producer is not None:
            self._producer.close(timeout_s)

    def after_fork_in_child(self) -> None:
        """A lock that another thread held in the parent is held by nobody here."""
        self._lock = threading.Lock()

    async def aclose(self, timeout_s: float | None = None) -> None:
        """The same as `close`, for async code."""
        await asyncio.to_thread(self.close, timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Fairlane {self.queue!r} at {self.connection.bootstrap}>"


def _payload(task_type: str, payload: Any) -> bytes:
    if payload is None:
        return b"{}"
    if isinstance(payload, bytes):
        return payload
    try:
        return dump_any(payload)
    except Unfit as error:
        raise PayloadError(str(error), task_type=task_type) from None
