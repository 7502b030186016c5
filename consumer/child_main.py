"""A child process of a worker: imports one handler and runs it for one task after the other.

Invariant: it never outlives its parent. What a handler did and sent through its context goes back as one answer, which
the parent settles.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Final

import msgspec
from opentelemetry import context as otel
from opentelemetry import trace

from fairlane.consumer.child_errors import full_name
from fairlane.consumer.child_messages import (
    LENGTH,
    Answer,
    AskedLater,
    Call,
    Cancel,
    Failed,
    LogLine,
    Ready,
    Refused,
    Rejected,
    Returned,
    Sent,
    Setup,
    ToChild,
    ToParent,
    Unusable,
    encode,
    for_child,
)
from fairlane.consumer.context import Context, current
from fairlane.consumer.outcome import OutboxRecord
from fairlane.consumer.signals import Reject, RetryLater
from fairlane.consumer.target import find
from fairlane.consumer.uncaught import log_uncaught
from fairlane.consumer.verdict import asked_delay_s, describe
from fairlane.topics import trace_context, tracing_setup
from fairlane.topics.errors import InvalidPayload
from fairlane.topics.payload import Signature
from fairlane.topics.task import Task

_PR_SET_PDEATHSIG: Final = 1
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({})))
_KEPT: Final = (
    "name",
    "levelno",
    "levelname",
    "created",
    "msecs",
    "pathname",
    "filename",
    "module",
    "lineno",
    "funcName",
)


class Pipe:
    """The child's end; any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, message: ToParent) -> None:
        """Hand a message to the parent; without one, end."""
        data = encode(message)
        try:
            with self._lock:
                self._connection.sendall(data)
        except OSError:
            os._exit(1)

    def receive(self) -> ToChild | None:
        """The next message; None when the parent has none any more, or is gone."""
        head = self._file.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return None
        return for_child(self._file.read(LENGTH.unpack(head)[0]))


class _ToParent(logging.Handler):
    """Log records go to the parent, with the task and the trace that they belong to."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        try:
            found = vars(record)
            fields: dict[str, Any] = {name: found[name] for name in _KEPT}
            fields |= {str(name): value for name, value in found.items() if name not in _STANDARD}
            fields |= {"msg": record.getMessage(), "process": os.getpid(), "threadName": record.threadName}
            if record.exc_info:
                fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
            if record.stack_info:
                fields["stack_info"] = record.stack_info
            context = current.get(None)
            if context is not None and "task_id" not in fields:
                fields |= {"task_id": context.task.id, "task_type": context.task.type, "attempt": context.attempt}
            span = trace.get_current_span().get_span_context()
            if span.is_valid and "trace_id" not in fields:
                fields |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
            self._pipe.send(LogLine(fields))
        except Exception:  # noqa: BLE001 - as every handler of logging: what cannot be logged stops nobody
            self.handleError(record)


class _ForParent(OutboxRecord, frozen=True, gc=False, kw_only=True):
    """A task in the child's outbox: where it goes is the parent's to say."""

    task: Task


class Child:
    """Runs one handler."""

    def __init__(self, pipe: Pipe, function: Callable[..., Any], signature: Signature) -> None:
        self._pipe = pipe
        self._function = function
        self._signature = signature
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._busy = False
        self._context: Context | None = None
        self._stop: Callable[[], object] | None = None

    def serve(self) -> None:
        """Run what comes until the parent has no more."""
        threading.Thread(target=self._listen, name="fairlane-parent", daemon=True).start()
        with asyncio.Runner() as runner:
            while (call := self._calls.get()) is not None:
                answer = self._run(runner, call)
                self._busy = False
                self._pipe.send(answer)

    def _listen(self) -> None:
        while True:
            message = self._pipe.receive()
            match message:
                case Call():
                    self._busy = True
                    self._calls.put(message)
                case Cancel():
                    self._cancel()
                case None if self._busy:
                    os._exit(1)  # the parent is gone: nobody would take the outcome
                case _:
                    self._calls.put(None)
                    return

    def _cancel(self) -> None:
        context, stop = self._context, self._stop
        if context is not None:
            context.cancelled = True
        if stop is not None:
            try:
                stop()
            except RuntimeError:
                return  # it has just ended

    def _run(self, runner: asyncio.Runner, call: Call) -> Answer:
        task = call.task
        traced = msgspec.structs.replace(task, traceparent=call.traceparent, tracestate=call.tracestate)
        attached = otel.attach(trace_context.extract(traced)) if call.traceparent else None
        carried = trace_context.carried.set((call.traceparent, call.tracestate))
        context = self._context = Context(task, call.deadline, lambda sent: _ForParent("", None, task=sent))
        token = current.set(context)
        try:
            try:
                positional, named = self._signature.load(task.payload)
            except InvalidPayload as error:
                return Refused(tuple(error.errors))
            result = self._function(*positional, **named)
            if asyncio.iscoroutine(result):
                result = runner.run(self._until_done(result), context=copy_context())
                if isinstance(result, _Raised):
                    return _failed(result.error)
            return Returned(self._signature.dump_result(result), tuple(map(_sent, context.outbox)))
        except BaseException as error:  # noqa: BLE001 - the parent decides what it means
            return _failed(error)
        finally:
            current.reset(token)
            self._context = None
            trace_context.carried.reset(carried)
            if attached is not None:
                otel.detach(attached)

    async def _until_done(self, coroutine: Any) -> Any:
        loop, running = asyncio.get_running_loop(), asyncio.current_task()
        assert running is not None
        self._stop = lambda: loop.call_soon_threadsafe(running.cancel)
        try:
            return await coroutine
        except BaseException as error:  # noqa: BLE001 - SystemExit would end the loop
            return _Raised(error)
        finally:
            self._stop = None


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def _sent(record: OutboxRecord) -> Sent:
    return Sent(task=record.task) if isinstance(record, _ForParent) else Sent(record=record)


def _failed(error: BaseException) -> Answer:
    info = describe(error)
    if isinstance(error, Reject):
        return Rejected(info.message)
    if isinstance(error, RetryLater):
        return AskedLater(asked_delay_s(error), info.message)
    return Failed(info, tuple(full_name(kind) for kind in type(error).__mro__))


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill this process with its parent, also while a handler holds the interpreter."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(fd: int, crash_fd: int, parent: int) -> None:
    """Serve the parent at the other end of a socket.

    Args:
        fd: of the socket.
        crash_fd: of the file that says where a crash was.
        parent: its process id.
    """
    _die_with_parent(parent)
    for inherited in (fd, crash_fd):
        os.set_inheritable(inherited, False)
    faulthandler.enable(crash_fd)
    for number in (signal.SIGTERM, signal.SIGINT):
        # A service manager tells all processes to end; when this one does is the parent's to say.
        signal.signal(number, lambda *_: None)
    pipe = Pipe(socket.socket(fileno=fd))
    setup = pipe.receive()
    if not isinstance(setup, Setup):
        return
    sys.path[:] = setup.sys_path
    root = logging.getLogger()
    root.addHandler(_ToParent(pipe))
    root.setLevel(setup.log_level)
    logging.captureWarnings(True)
    log_uncaught()
    if setup.traced:
        tracing_setup.configure()
    try:
        found = find(setup.target, setup.task_type)
        if found.connect is not None:
            found.connect(**setup.connect)
        child = Child(pipe, found.function, found.signature)
    except BaseException as error:  # noqa: BLE001 - a module of the user's may do anything
        pipe.send(Unusable(describe(error)))
        return
    pipe.send(Ready())
    child.serve()
    tracing_setup.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
