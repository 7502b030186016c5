"""Child processes for handlers with `isolation="process"`: of one handler each, and used again.

Invariant: whatever a handler does to its process, the worker goes on: its loop, its threads and its Kafka session never
run the handler's code. An attempt that lost its child is a worker lost (`ChildLost`), counted apart from attempts.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context as ContextVars
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from opentelemetry import trace

from fairlane.consumer.child_errors import ChildLost, PayloadRefused, raised
from fairlane.consumer.child_messages import AskedLater, Call, Failed, Refused, Rejected, Returned, Setup
from fairlane.consumer.child_process import ChildProcess, Ended
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.context import Context, current
from fairlane.consumer.handlers import Handler, Handlers
from fairlane.consumer.idle_children import IdleChildren
from fairlane.consumer.signals import Reject, RetryLater
from fairlane.consumer.target import check_target, target_of
from fairlane.topics import spans
from fairlane.topics.codec import load_any
from fairlane.topics.errors import InvalidPayload, UsageError
from fairlane.topics.payload import Signature
from fairlane.topics.task import Task
from fairlane.topics.trace_context import to_text


class Children:
    """The child processes of a worker; an asynchronous context manager.

    They are started by exec (not forked: the worker has threads), each in a session of its own. Entering checks that
    every handler can be imported elsewhere, by starting one child for each. Those that a burst needed and that nobody
    needs any more are ended, by the timer of the event loop.

    Args:
        config: of the worker.
        handlers: by task type.
        decode: whether somebody looks at results on their way, so that they must be values.
    """

    def __init__(self, config: WorkerConfig, handlers: Handlers, *, decode: bool = False) -> None:
        self._config = config
        self._handlers = [handler for handler in handlers.values() if handler.isolation == "process"]
        self._decode = decode
        self._idle: IdleChildren[ChildProcess] = IdleChildren(config.child_idle_s)
        self._starting = 0
        self._busy: set[ChildProcess] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.started = 0
        self.ends: Counter[str] = Counter()
        """How they ended: idle for long, recycled after so many tasks or so much memory, killed, or died."""

    @property
    def alive(self) -> int:
        """How many there are, idle or busy; any thread."""
        return len(self._busy) + len(self._idle)

    async def __aenter__(self) -> Self:
        """Start one child for each handler.

        Raises:
            UsageError: a handler cannot be imported by another process, or the system does not say how much memory a
                process uses.
        """
        try:
            for handler in self._handlers:
                check_target(handler.function, handler.type)
                _check_memory(handler)
                self._put(handler, await self._start(handler))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all of them, and wait until they are gone."""
        if self._timer is not None:
            self._timer.cancel()
        for child in self._idle.take_all():
            self._retire(child)
        await asyncio.gather(*self._retiring, *[child.kill("the worker ended") for child in self._busy])

    @asynccontextmanager
    async def child_for(self, handler: Handler) -> AsyncIterator[Handler]:
        """A child for one attempt, as a handler that runs the given one there.

        The attempt calls it as any coroutine; the context that is current then gets what the handler sent.

        Raises:
            UsageError: a child cannot be started.
        """
        child = await self._take(handler)
        self._busy.add(child)

        async def run_in_child() -> Any:
            return await self._run(child, handler, current.get())

        try:
            yield replace(
                handler,
                function=run_in_child,
                signature=_Encoded(handler.signature),
                isolation="auto",
                memory_max_mib=None,
                max_tasks_per_child=None,
                max_mib_per_child=None,
            )
        finally:
            self._busy.discard(child)
            self._give_back(child, handler)

    async def _take(self, handler: Handler) -> ChildProcess:
        while (child := self._idle.take(handler.type)) is not None:
            if child.ended is None:
                return child
            self._note_end(child)
        # Without one to spare of each handler, tasks of several types at full slots would end each other's children.
        if len(self._idle) + len(self._busy) + self._starting >= self._config.concurrency + len(self._handlers):
            longest = self._idle.take_longest()
            if longest is not None:
                self._retire(longest)
        return await self._start(handler)

    def _give_back(self, child: ChildProcess, handler: Handler) -> None:
        if child.ended is not None:
            self._note_end(child)
            return
        worn = handler.max_tasks_per_child is not None and child.calls >= handler.max_tasks_per_child
        large = handler.max_mib_per_child is not None and child.resident_mib() > handler.max_mib_per_child
        if worn or large:
            self.ends["recycled"] += 1
            self._retire(child)
        else:
            self._put(handler, child)

    def _put(self, handler: Handler, child: ChildProcess) -> None:
        self._idle.put(handler.type, child, asyncio.get_running_loop().time())
        self._look_later()

    def _look_later(self) -> None:
        """Have the loop look once a child is due; it looks in vain if that one is taken before."""
        at = self._idle.next_at() if self._timer is None else None
        if at is not None:
            # What it does then is no part of the attempt that has just ended.
            self._timer = asyncio.get_running_loop().call_at(at, self._end_idle, context=ContextVars())

    def _end_idle(self) -> None:
        self._timer = None
        for child in self._idle.take_due(asyncio.get_running_loop().time()):
            if child.ended is None:
                self.ends["idle"] += 1
                self._retire(child)
            else:
                self._note_end(child)
        self._look_later()

    def _note_end(self, child: ChildProcess) -> None:
        self.ends["killed" if child.was_killed else "died"] += 1

    def _retire(self, child: ChildProcess) -> None:
        ending = asyncio.create_task(child.stop(), name="fairlane-child-ends")
        self._retiring.add(ending)
        ending.add_done_callback(self._retiring.discard)

    async def _start(self, handler: Handler) -> ChildProcess:
        self.started += 1
        setup = Setup(
            target_of(handler.function, handler.type),
            handler.type,
            tuple(sys.path),
            logging.getLogger().getEffectiveLevel(),
            dict(self._config.connect),
            spans.tracer() is not None,
        )
        self._starting += 1
        try:
            return await ChildProcess.start(setup)
        finally:
            self._starting -= 1

    async def _run(self, child: ChildProcess, handler: Handler, context: Context) -> Any:
        traceparent, tracestate = _trace_of(context.task)
        call = Call(context.task, context.deadline, traceparent, tracestate)
        match await child.run(call, handler.memory_max_mib):
            case Returned(result, sent):
                for each in sent:
                    if each.task is not None:
                        context.enqueue(each.task)
                    elif each.record is not None:
                        headers: Any = each.record.headers
                        context.emit(each.record.topic, each.record.value, key=each.record.key, headers=headers)
                return load_any(result) if self._decode else _Result(result)
            case Failed(info, kinds):
                raise raised(info, kinds)
            case AskedLater(delay_s, reason):
                raise RetryLater(delay_s, reason)
            case Rejected(reason):
                raise Reject(reason)
            case Refused(errors):
                patience_s = self._config.no_handler_s if handler.on_invalid == "retry" else 0.0
                raise PayloadRefused(InvalidPayload(handler.type, errors), patience_s)
            case Ended(how, crash):
                raise ChildLost(how, crash, self._config.worker_lost_max)


def _check_memory(handler: Handler) -> None:
    if (handler.memory_max_mib or handler.max_mib_per_child) and not Path("/proc/self/statm").exists():
        raise UsageError(
            f"task {handler.type!r} has a limit of memory, and this system does not say what a process uses",
            "Run it on Linux, or drop the limit",
        )


def _trace_of(task: Task) -> tuple[str, str]:
    """The attempt's span where there is one, else what the task says."""
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        return to_text(span), span.trace_state.to_header()
    return task.traceparent, task.tracestate


class _Result(bytes):
    """A result that is JSON already."""


class _Encoded(Signature):
    """The signature of a handler whose result was made JSON where it ran."""

    __slots__ = ("_real",)

    def __init__(self, real: Signature) -> None:
        self.task_type = real.task_type
        self.shape = real.shape
        self.content_type = real.content_type
        self._real = real

    def dump_result(self, value: Any) -> bytes:
        return value if isinstance(value, _Result) else self._real.dump_result(value)
