"""Where eager tasks run: `async def` handlers on one event loop, `def` handlers on the thread that enqueues.

Invariant: whoever enqueues gets its thread back with the task done, whether it has an event loop or not, and a handler
that enqueues in its turn cannot wait for itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

from fairlane.consumer.threads import Call, Hand, Threads

T = TypeVar("T")


class CallersThread(Threads):
    """Runs calls on the thread that calls `serve`, rather than on one of its own.

    A user's tests have their database session, their patches and their debugger on that thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._given: SimpleQueue[Call | None] = SimpleQueue()

    def put(self, calls: Sequence[Call]) -> None:
        """Have `serve` run these."""
        for call in calls:
            self._given.put(call)

    def serve(self) -> None:
        """Run what comes until `end` is called."""
        hand = Hand()
        self._hands.append(hand)
        while (call := self._given.get()) is not None:
            hand.call = call
            call.work(hand)
            hand.call = None
            call.done()
            self._is_untold = True
            self._tell()

    def end(self) -> None:
        """Let `serve` return."""
        self._given.put(None)


class Loop:
    """The event loop of a block: the one it is in, or one on a thread of its own that is made when it is needed."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._given = loop
        self._made: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Callable[[Threads], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine to its end, and meanwhile `def` handlers on this thread.

        Args:
            coroutine: makes it, given what runs `def` handlers.
        """
        here = CallersThread()
        if _is_running_here():
            # This thread's loop is busy with us: it cannot run what we wait for.
            future = _run_apart(coroutine(here))
        else:
            future = asyncio.run_coroutine_threadsafe(coroutine(here), self._get())
        future.add_done_callback(lambda _: here.end())
        here.serve()
        return future.result()

    def hold(self, opened: AbstractAsyncContextManager[Any]) -> Callable[[], None]:
        """Enter a context manager on the loop, in a task that leaves it again, too.

        Returns:
            Leaves it.
        """
        loop = self._get()
        entered: Future[None] = Future()
        leaving = asyncio.Event()

        async def hold() -> None:
            async with opened:
                entered.set_result(None)
                await leaving.wait()

        held = asyncio.run_coroutine_threadsafe(hold(), loop)
        held.add_done_callback(lambda _: None if entered.done() else entered.set_result(None))
        entered.result()

        def leave() -> None:
            loop.call_soon_threadsafe(leaving.set)
            held.result()

        if held.done():
            held.result()
        return leave

    def close(self) -> None:
        """Stop the loop that was made."""
        with self._lock:
            loop, self._made = self._made, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    def _get(self) -> asyncio.AbstractEventLoop:
        if self._given is not None:
            return self._given
        with self._lock:
            if self._made is None:
                loop = self._made = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(loop,), name="fairlane-eager", daemon=True)
                self._thread.start()
            return self._made


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _is_running_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_apart(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Run a coroutine on an event loop and a thread of its own, with the context variables of here."""
    future: Future[T] = Future()
    variables = copy_context()

    def run() -> None:
        try:
            future.set_result(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            future.set_exception(error)

    threading.Thread(target=variables.run, args=(run,), name="fairlane-eager-nested", daemon=True).start()
    return future
