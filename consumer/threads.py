"""Threads for `def` handlers.

Invariant: a thread runs one call at a time, and its slot is taken until the call has really returned. A call whose time
is up is asked to stop (`context().cancelled`) and then interrupted at its next bytecode; one that sits in C code for
longer than the patience allows is left behind with its thread, and a new thread takes the slot.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context as ContextVars
from queue import SimpleQueue
from typing import Any, Final

_logger = logging.getLogger("fairlane.executor")

INTERRUPT_PATIENCE_S: Final = 5.0


class Interrupted(BaseException):
    """Raised in a handler's thread when its time is up; no `except Exception` of the handler's holds it."""


class _Call:
    __slots__ = (
        "abandoned",
        "done",
        "error",
        "function",
        "has_ended",
        "is_stopped",
        "lock",
        "loop",
        "result",
        "thread_id",
        "variables",
    )

    def __init__(self, function: Callable[[], Any], variables: ContextVars, loop: asyncio.AbstractEventLoop) -> None:
        self.function = function
        self.variables = variables
        self.loop = loop
        self.done: asyncio.Future[None] = loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None
        # Held while the thread may be interrupted: an interruption never hits the thread after its call.
        self.lock = threading.Lock()
        self.thread_id: int | None = None
        self.is_stopped = False
        self.has_ended = False
        self.abandoned = False


class Threads:
    """As many threads as calls have run at once, at most the worker's concurrency; an idle one costs nothing."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._ended: deque[_Call] = deque()
        self._is_told = False
        self._idle = 0
        self._count = 0
        self._lock = threading.Lock()
        self.abandoned = 0

    async def run(self, function: Callable[[], Any], variables: ContextVars, on_timeout: Callable[[], None]) -> Any:
        """Run a call on a thread; a cancellation interrupts it and waits until it has really ended.

        Args:
            function: what to call.
            variables: the context variables that it sees.
            on_timeout: told when it is asked to stop.

        Returns:
            What it returned.

        Raises:
            BaseException: what it raised.
        """
        call = _Call(function, variables, asyncio.get_running_loop())
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                self._count += 1
                threading.Thread(target=self._serve, name=f"fairlane-handler-{self._count}", daemon=True).start()
        self._calls.put(call)
        try:
            await call.done
        except asyncio.CancelledError:
            on_timeout()
            await self._interrupt(call)
            if call.error is not None or not call.has_ended:
                raise
        if call.error is not None:
            raise call.error
        return call.result

    async def _interrupt(self, call: _Call) -> None:
        with call.lock:
            call.is_stopped = True
            if call.thread_id is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(call.thread_id), ctypes.py_object(Interrupted)
                )
        if call.has_ended:
            return
        # The first one was cancelled with whoever waited for it.
        call.done = call.loop.create_future()
        try:
            async with asyncio.timeout(INTERRUPT_PATIENCE_S):
                await call.done
        except TimeoutError:
            call.abandoned = True
            self.abandoned += 1
            _logger.error(  # noqa: TRY400 - the traceback is that of our own wait
                "a handler does not return from C code %g s after it was told to stop: its thread is left behind",
                INTERRUPT_PATIENCE_S,
            )

    def close(self) -> None:
        """Let idle threads end; a busy one ends with the process."""
        for _ in range(self._count):
            self._calls.put(None)

    def _serve(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            self._run(call)
            if call.abandoned:
                return
            with self._lock:
                self._idle += 1
            self._ended.append(call)
            if not self._is_told:
                # Many that end at once wake the loop once.
                self._is_told = True
                try:
                    call.loop.call_soon_threadsafe(self._tell)
                except RuntimeError:
                    return  # the loop is closed: nobody waits

    def _tell(self) -> None:
        self._is_told = False
        while self._ended:
            call = self._ended.popleft()
            call.has_ended = True
            if not call.done.done():
                call.done.set_result(None)

    @staticmethod
    def _run(call: _Call) -> None:
        try:
            with call.lock:
                if call.is_stopped:
                    raise Interrupted
                call.thread_id = threading.get_ident()
            try:
                call.result = call.variables.run(call.function)
            finally:
                with call.lock:
                    call.thread_id = None
        except BaseException as error:  # noqa: BLE001 - the verdict decides what it means
            call.error = error
