"""A task type and the function behind it: what `@app.task` makes of a function.

Invariant: it is frozen, and its payload is checked against the function's signature where it is made, by mypy and at
run time, so that a call that does not fit never leaves the process.
"""

from __future__ import annotations

import functools
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

from fairlane.call import Call
from fairlane.consumer.handlers import Handler
from fairlane.producer import TaskHandle
from fairlane.task_options import Options, Terms

if TYPE_CHECKING:
    from fairlane.task_registry import TaskRegistry

P = ParamSpec("P")
R = TypeVar("R")
I = TypeVar("I")  # noqa: E741 - an item
T = TypeVar("T")


class Enqueues(Generic[P, R]):
    """What can be enqueued with the arguments of a function: a task definition, as it is or with options."""

    __slots__ = ("_app", "_handler", "_terms")

    def __init__(self, app: TaskRegistry, handler: Handler, terms: Terms) -> None:
        self._app = app
        self._handler = handler
        self._terms = terms

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """The call as a value, for `app.enqueue_many([…])` or the `enqueue` of a handler's context.

        Raises:
            PayloadError: the arguments do not fit the function.
        """
        handler = self._handler
        signature = handler.signature
        payload, source = signature.dump(args, kwargs), self._app.settings.source
        return Call(handler.type, payload, signature.content_type, self._terms, source, signature.load_result)

    def call_with(self, payload: bytes) -> Call[R]:
        """The call with a payload that is bytes already, and is not checked here."""
        signature = self._handler.signature
        source = self._app.settings.source
        return Call(self._handler.type, payload, signature.content_type, self._terms, source, signature.load_result)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Send the task and wait until Kafka has acknowledged it.

        Args:
            args: as the function takes them.
            kwargs: as the function takes them.

        Raises:
            PayloadError: the arguments do not fit the function.
            KafkaUnreachable: no broker answered in time; the task is not there.
            QueueUnknown: the queue's topics do not exist.
            TaskTooLarge: Kafka does not take so large a task.
            BufferFull: tasks are made faster than Kafka takes them.
            EnqueueUncertain: no acknowledgement came in time; the task may be there. Send it again with the same id.
            EnqueueRefused: Kafka refused it for good.
            ProducerClosed: the app was closed.
        """
        return self._app.sender.enqueue(self.call(*args, **kwargs).parcel())

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """The same as `enqueue`, for async code; any event loop may await it."""
        return await self._app.sender.aenqueue(self.call(*args, **kwargs).parcel())


class BoundTask(Enqueues[P, R]):
    """A task with options: what `options(…)` returns."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<task {self._handler.type!r} with {self._terms.described()}>"


class TaskDefinition(Enqueues[P, R]):
    """A task type and its function; calling it runs the function here and now, as any function."""

    __slots__ = ("__dict__", "__weakref__")

    def __init__(self, app: TaskRegistry, handler: Handler, terms: Terms) -> None:
        super().__init__(app, handler, terms)
        wrapper: Any = self
        functools.update_wrapper(wrapper, handler.function)

    @property
    def type(self) -> str:
        """The task type: what a client of another language names."""
        return self._handler.type

    @property
    def priority(self) -> int:
        """Level of the lane that it is enqueued in unless an option says otherwise."""
        return self._terms.lane.level

    @property
    def handler(self) -> Handler:
        """What a worker needs to run it."""
        return self._handler

    def connect(self, *, queue_url: str = "", kafka: Mapping[str, Any] | None = None) -> None:
        """Have the app use the Kafka that a worker uses: how a child process of it hears of the options of its command.

        Args:
            queue_url: of the worker's settings.
            kafka: librdkafka properties of the worker's settings.
        """
        options = {"queue_url": queue_url or None, "kafka": dict(kafka or {}) or None}
        if any(options.values()):
            self._app.use_settings(self._app.settings.with_options(**options))

    def options(self, **options: Unpack[Options]) -> BoundTask[P, R]:
        """The same task, to be enqueued under other terms: `t.options(priority=5, delay_s=60).enqueue(…)`.

        Args:
            options: priority, key, delay_s, max_attempts, timeout_s, expires_s, id, reply; see `Options`.

        Raises:
            UsageError: an option does not exist, or its value is none that it can have.
        """
        terms = self._terms.with_options(options, self._app.lanes)
        return BoundTask(self._app, self._handler, terms)

    def __repr__(self) -> str:
        return f"<task {self.type!r}: {self._handler.function.__module__}.{self._handler.function.__qualname__}>"


class SyncTask(TaskDefinition[P, R]):
    """A task whose function is a plain `def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here, without Kafka."""
        result: R = self._handler.function(*args, **kwargs)
        return result


class AsyncTask(TaskDefinition[P, R]):
    """A task whose function is `async def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the function here, without Kafka; await it."""
        coroutine: Coroutine[Any, Any, R] = self._handler.function(*args, **kwargs)
        return coroutine


class BatchTask(TaskDefinition[[I], R], Generic[I, R, T]):
    """A task whose function is given a list, of the payloads of many tasks; one is enqueued with one item."""

    def __call__(self, items: list[I], /) -> T:
        """Run the function here, without Kafka; await it if it is `async def`."""
        returned: T = self._handler.function(items)
        return returned
