"""One attempt: run a handler for a task and say what it led to.

Invariant: an attempt always ends in an outcome, whatever the handler does, and has no effect on Kafka.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from msgspec.structs import replace

from fairlane.consumer.adaptive_types import is_overload
from fairlane.consumer.attempt_span import AttemptSpans, with_span
from fairlane.consumer.children import Children
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.context import Context, current
from fairlane.consumer.control_state import Cancel, cancel_of
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.handlers import Handler, Handlers, Middleware
from fairlane.consumer.outcome import Cancelled, Completed, Dead, Expired, HandedBack, OutboxRecord, Outcome, Retrying
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.threads import Interrupted, Threads
from fairlane.consumer.verdict import (
    AttemptTimeout,
    CancelledByOperator,
    NoHandler,
    ResultTooLarge,
    TaskExpired,
    describe,
    failed,
    unfit,
)
from fairlane.topics import routing, tracing, wire
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import InvalidPayload
from fairlane.topics.events import ErrorInfo
from fairlane.topics.task import Task
from fairlane.topics.tracing import Processing

CANCEL_PATIENCE_S: Final = 5.0
"""How long an attempt on the loop may take to end once it was cut off; then it is left behind."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Begun(NamedTuple):
    """An attempt whose handler is called."""

    handler: Handler
    context: Context
    timeout_s: float | None
    started_ms: int
    processing: Processing


class Here(Protocol):
    """The thread that an attempt runs on from its beginning to its end, for a handler that is called in place."""

    def call(self, begun: Begun, arguments: Arguments) -> Any:
        """Call the handler.

        Raises:
            BaseException: what it raised, or Interrupted.
        """
        ...

    def meaning(self, error: BaseException) -> BaseException:
        """What it means that the call raised this: an error of its own, or that it was stopped."""
        ...


class Attempts:
    """Runs attempts.

    Args:
        config: of the worker.
        handlers: by task type.
        middleware: wraps every attempt, the first one outermost.
        threads: for `def` handlers.
        children: for those with `isolation="process"`; without it they run here, by their kind.
    """

    def __init__(
        self,
        config: WorkerConfig,
        handlers: Handlers,
        middleware: Sequence[Middleware],
        threads: Threads,
        children: Children | None = None,
    ) -> None:
        self._config = config
        self._names = config.names
        self._spans = AttemptSpans(config)
        self._handlers = handlers
        self._middleware = tuple(middleware)
        self.threads = threads
        self._children = children
        self.in_place = frozenset(
            kind
            for kind, each in handlers.items()
            if not (each.is_async or middleware or each.batch or (children is not None and each.isolation == "process"))
        )
        """The types whose handlers need no event loop: nothing of their attempts is awaited."""
        self.all_in_place = len(self.in_place) == len(handlers)
        self.leaving = False
        """Whether the worker is going away: an attempt that is cancelled now is handed back, not failed."""
        self.cancels: Mapping[str, Cancel] = {}
        """What operators have cancelled, by task id; whoever follows that owns it."""
        self.cancelling: set[str] = set()
        """Ids of those whose attempts are cut off on the loop now, since they are in `cancels`."""
        self.on_stuck: Callable[[asyncio.Task[Any]], None] | None = None
        """Told of the asyncio task of an attempt that lets nothing cut it off."""

    async def run(self, delivery: Delivery, here: Here | None = None) -> Outcome:
        """Run the handler of a task; returns what it led to.

        Args:
            delivery: the task.
            here: calls the handler, where its type is one of `in_place`: then nothing is awaited, and the coroutine can
                be run to its end without an event loop.
        """
        started_ms = now_ms()
        processing = tracing.UNTRACED
        outcome: Outcome | None = None
        try:
            with self._spans.of(delivery) as processing:
                handler = self._handlers.get(delivery.task.type)
                outcome = self._refused(delivery, handler, started_ms, processing)
                if outcome is not None or handler is None:
                    pass
                elif handler.isolation == "process" and self._children is not None:
                    async with self._children.child_for(handler) as in_child:
                        # The payload is loaded there, and starting a child is none of the attempt's time.
                        outcome = await self._attempt(delivery, in_child, ((), {}), now_ms(), processing)
                else:
                    try:
                        arguments = handler.signature.load(delivery.task.payload)
                    except InvalidPayload as error:
                        outcome = self._invalid(delivery, handler, error, started_ms, processing)
                    else:
                        outcome = await self._attempt(delivery, handler, arguments, started_ms, processing, here)
        except BaseException as error:  # noqa: BLE001 - a validator or a span processor of the user's may do anything
            # One that fails when the handler is through changes nothing about what it did.
            if outcome is None:
                handler = self._handlers.get(delivery.task.type)
                policy = handler.retry if handler is not None else RetryPolicy()
                outcome = self.failed(delivery, policy, error, started_ms)
        assert outcome is not None
        return with_span(outcome, processing) if processing.traceparent else outcome

    def _refused(
        self, delivery: Delivery, handler: Handler | None, started_ms: int, processing: Processing
    ) -> Outcome | None:
        """The outcome of what is not run at all: it has expired, or nobody here knows its type."""
        task = delivery.task
        if self.cancels and (cancel := cancel_of(self.cancels, task)) is not None:
            processing.happened("cancelled")
            return Cancelled(delivery, 0, started_ms, cancel.why)
        if task.expires_ms and started_ms >= task.expires_ms:
            processing.failed(TaskExpired(started_ms - task.expires_ms))
            return Expired(delivery, started_ms)
        if handler is not None:
            return None
        missing = NoHandler(task.type, tuple(self._handlers))
        processing.failed(missing)
        patience_s = self._config.no_handler_s
        return unfit(delivery, "no_handler", missing, patience_s=patience_s, started_ms=started_ms, now_ms=started_ms)

    def _invalid(
        self, delivery: Delivery, handler: Handler, error: InvalidPayload, started_ms: int, processing: Processing
    ) -> Outcome:
        processing.failed(error)
        patience_s = self._config.no_handler_s if handler.on_invalid == "retry" else 0.0
        return unfit(
            delivery, "invalid_payload", error, patience_s=patience_s, started_ms=started_ms, now_ms=started_ms
        )

    async def _attempt(
        self,
        delivery: Delivery,
        handler: Handler,
        arguments: Arguments,
        started_ms: int,
        processing: Processing,
        here: Here | None = None,
    ) -> Outcome:
        task = delivery.task
        timeout_s = task.timeout_ms / 1000 if task.timeout_ms else handler.timeout_s
        deadline = started_ms / 1000 + timeout_s if timeout_s is not None else None
        context = Context(task, deadline, self.to_record)
        token = current.set(context)
        try:
            if here is not None:
                result = here.call(Begun(handler, context, timeout_s, started_ms, processing), arguments)
            elif timeout_s is None and handler.is_async and not self._middleware:
                # The common case of a short handler, without what it does not need.
                positional, named = arguments
                result = await handler.function(*positional, **named)
            else:
                result = await self.timed(handler, arguments, context, timeout_s)
            encoded = handler.signature.dump_result(result)
        except BaseException as error:  # noqa: BLE001 - every way to fail has an outcome
            if here is not None:
                error = here.meaning(error)
            return self.ended_by(error, delivery, handler, started_ms, processing)
        finally:
            current.reset(token)
        finished_ms = now_ms()
        if len(encoded) > self._config.result_max_bytes:
            return self.too_large(delivery, len(encoded), started_ms, finished_ms, processing)
        return Completed(delivery, started_ms, finished_ms, encoded, context.outbox)

    def ended_by(
        self, error: BaseException, delivery: Delivery, handler: Handler, started_ms: int, processing: Processing
    ) -> Outcome:
        """What an attempt led to whose handler raised this, which is said in its span too."""
        outcome = self.failed(delivery, handler.retry, error, started_ms)
        if isinstance(outcome, HandedBack | Cancelled):
            processing.happened("handed back" if isinstance(outcome, HandedBack) else "cancelled")
        else:
            processing.failed(error)
        if isinstance(outcome, Retrying | Dead) and is_overload(handler, self._config, error):
            outcome = replace(outcome, overloaded=True)
        return outcome

    def too_large(
        self, delivery: Delivery, size_bytes: int, started_ms: int, finished_ms: int, processing: Processing
    ) -> Dead:
        """What an attempt led to whose result has more bytes than a result may have."""
        error = ResultTooLarge(size_bytes, self._config.result_max_bytes)
        processing.failed(error)
        return Dead(delivery, started_ms, finished_ms, "result_too_large", describe(error, with_traceback=False))

    def failed(
        self,
        delivery: Delivery,
        policy: RetryPolicy,
        error: BaseException,
        started_ms: int,
        info: ErrorInfo | None = None,
    ) -> Outcome:
        """What an attempt led to that raised this; `info` is the error as text, where it was made already."""
        if isinstance(error, CancelledByOperator) or (
            self.cancelling
            and delivery.task.id in self.cancelling
            and (isinstance(error, asyncio.CancelledError) or _is_cancelled())
        ):
            cancel = self.cancels.get(delivery.task.id)
            return Cancelled(delivery, started_ms, now_ms(), cancel.why if cancel is not None else "")
        if self.leaving and (isinstance(error, asyncio.CancelledError) or _is_cancelled()):
            # Whatever a handler makes of its cancellation: the worker left, the handler did not fail.
            return HandedBack(delivery, now_ms())
        unit = random.random()  # noqa: S311 - jitter, not secrecy
        return failed(delivery, policy, error, started_ms=started_ms, now_ms=now_ms(), unit=unit, info=info)

    async def timed(
        self,
        handler: Handler,
        arguments: Arguments,
        context: Context,
        timeout_s: float | None,
    ) -> Any:
        """Call a handler by its kind, through the middleware and within its time.

        Raises:
            AttemptTimeout: its time is up.
            BaseException: what the handler raised.
        """
        call = self._call(handler, arguments, context)
        if timeout_s is None:
            return await self._wrapped(context, call)
        limit = asyncio.timeout(timeout_s)
        stuck = self._watch_stuck(timeout_s)
        try:
            async with limit:
                return await self._wrapped(context, call)
        except TimeoutError as error:
            # A TimeoutError of the handler's own is the handler's failure, not ours.
            if limit.expired():
                context.cancel()
                raise AttemptTimeout(timeout_s) from error
            raise
        finally:
            if stuck is not None:
                stuck.cancel()

    def _watch_stuck(self, timeout_s: float) -> asyncio.TimerHandle | None:
        task = asyncio.current_task()
        if self.on_stuck is None or task is None:
            return None
        return asyncio.get_running_loop().call_later(timeout_s + CANCEL_PATIENCE_S, self.on_stuck, task)

    def left_behind(self, delivery: Delivery, started_ms: int) -> Outcome:
        """What an attempt led to that goes on although it was cut off and had time to end: its time was up."""
        handler = self._handlers[delivery.task.type]
        if delivery.task.id in self.cancelling:
            return self.failed(delivery, handler.retry, CancelledByOperator(), started_ms)
        timeout_s = (handler.timeout_s or 0.0) if not delivery.task.timeout_ms else delivery.task.timeout_ms / 1000
        return self.failed(delivery, handler.retry, AttemptTimeout(timeout_s), started_ms)

    def _call(self, handler: Handler, arguments: Arguments, context: Context) -> Callable[[], Awaitable[Any]]:
        positional, named = arguments
        function = partial(handler.function, *positional, **named)
        if handler.is_async:
            return function
        return partial(self._on_thread, function, context)

    async def _on_thread(self, function: Callable[[], Any], context: Context) -> Any:
        try:
            return await self.threads.run(function, copy_context(), context.cancel)
        except Interrupted as error:
            raise RuntimeError("the handler's thread was interrupted") from error

    async def _wrapped(self, context: Context, call: Callable[[], Awaitable[Any]]) -> Any:
        for wrap in reversed(self._middleware):
            call = partial(wrap, context, call)
        return await call()

    def to_record(self, task: Task) -> OutboxRecord:
        """The record that enqueues a task, with the context of a span of its own."""
        if not task.lane:
            lane = routing.lane_for(task.priority, self._config.lanes)
            task = replace(task, lane=lane.topic, priority=lane.level)
        topic = routing.first_topic(task, self._names, self._config.tiers, now_ms())
        traced = tracing.create(task, topic)
        # A new record's value is the payload, whatever form the record had that the task was read from.
        return OutboxRecord(topic, traced.payload, traced.key, tuple(wire.encode(traced)))


def _is_cancelled() -> bool:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False  # on a thread without a loop: who stops what runs there says so
    return task is not None and task.cancelling() > 0
