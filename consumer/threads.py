"""Threads for `def` handlers.

Invariant: a thread runs one call at a time, and as long as a call waits, a thread is on its way to it: one that is
through with another call and looks for the next, or one that was woken or started. The same holds as long as a call is
done that the loop was not told of. So nothing waits for a call that blocks, and as long as none blocks, few threads run
them all, without the loop and without waking each other.

A call whose time is up is asked to stop (`context().cancelled`) and then interrupted at its next bytecode; one that
sits in C code for longer than the patience allows is left behind with its thread, and a new thread takes the slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context as ContextVars
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeVar

from fairlane.consumer.handover import Handover

_logger = logging.getLogger("fairlane.executor")

T = TypeVar("T")

INTERRUPT_PATIENCE_S: Final = 5.0


class Interrupted(BaseException):
    """Raised in a handler's thread when its time is up; no `except Exception` of the handler's holds it."""


class Hand:
    """One thread, the one that makes it.

    Attributes:
        call: what it runs, from when it has taken it until it is done with it.
        bell: released to wake it while it rests.
        is_dismissed: it was woken to end.
    """

    __slots__ = ("_inside", "_lock", "_thread_id", "bell", "call", "is_dismissed")

    def __init__(self) -> None:
        self.call: Call | None = None
        self._inside: Call | None = None
        # By itself whoever holds it may release it, and nobody else: an interruption may come between any two steps.
        self._lock = threading.RLock()
        self._thread_id = threading.get_ident()
        self.bell = threading.Lock()
        self.bell.acquire()
        self.is_dismissed = False

    def run(
        self,
        call: Call,
        function: Callable[..., Any],
        positional: Sequence[Any] = (),
        named: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:
        """Call a function that may be interrupted, and nothing else: not even what this thread does after it.

        Raises:
            Interrupted: the call was stopped.
            BaseException: what the function raised.
        """
        self._inside = call
        try:
            if call.is_stopped:
                raise Interrupted
            return function(*positional, **named)
        finally:
            self._inside = None
            if call.is_stopped:
                self._be_past()

    def interrupt(self, call: Call) -> None:
        """Raise `Interrupted` in the function that runs for a call that is stopped; any other thread."""
        with self._lock:
            if self._inside is call:
                _raise_in(self._thread_id, Interrupted)

    def _be_past(self) -> None:
        """Let an interruption that is on its way arrive, and nowhere else."""
        with contextlib.suppress(Interrupted):
            try:
                self._lock.acquire()
            finally:
                with contextlib.suppress(RuntimeError):
                    self._lock.release()
            _raise_here()


class Call:
    """What a thread runs.

    Attributes:
        is_stopped: it should end: what of it runs in `Hand.run` is interrupted.
        is_abandoned: nobody waits for it any more, and it ends its thread if it ever returns.
    """

    __slots__ = ("is_abandoned", "is_stopped")

    def __init__(self) -> None:
        self.is_stopped = False
        self.is_abandoned = False

    def work(self, hand: Hand) -> None:
        """Do all of it, on its thread; never raises."""
        raise NotImplementedError

    def done(self) -> None:
        """Gather it in the handover that it is for, on its thread."""
        raise NotImplementedError


class Threads:
    """As many threads as calls have run at once, at most the worker's concurrency; an idle one costs nothing."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._seekers: deque[None] = deque()
        """One entry for each thread that is between two calls and looks for one: as a counter that needs no lock."""
        self._resting: list[Hand] = []
        """The last one to come is the first to go: so few threads do what few can."""
        self._lock = threading.Lock()
        """Held while a thread goes to rest or is woken, never for a call as such."""
        self._count = 0
        self._is_closed = False
        self._hands: list[Hand] = []
        self._handovers: list[Handover[Any]] = []
        self._is_untold = False
        """Whether calls are done that the loop was not told of."""
        self._waited: Handover[_Waited] | None = None
        self.on_done: Callable[[], None] | None = None
        """Called before the loop is told: what it does with what is done, the loop need not do."""
        self.abandoned = 0

    def handover(self, take: Callable[[list[T]], None]) -> Handover[T]:
        """From the threads to the running loop; it is told when a thread has nothing to do, or no time to tell it."""
        handover = Handover(asyncio.get_running_loop(), take)
        self._handovers.append(handover)
        return handover

    def put(self, calls: Sequence[Call]) -> None:
        """Have these run, one after the other or at once."""
        self._calls.extend(calls)
        if not self._seekers:
            self._summon()

    @property
    def running(self) -> list[Call]:
        """What threads have taken and are not done with; any thread."""
        return [call for hand in self._hands.copy() if (call := hand.call) is not None]

    def interrupt(self, call: Call) -> None:
        """Interrupt a call that is stopped, if a thread runs it."""
        for hand in self._hands.copy():
            if hand.call is call:
                hand.interrupt(call)

    def abandon(self, call: Call) -> None:
        """Leave a call behind with its thread."""
        call.is_abandoned = True
        self.abandoned += 1
        # Its own interruption is still on its way, and may be for ever.
        with contextlib.suppress(Interrupted):
            _raise_here()
        _logger.error(
            "a handler does not return from C code %g s after it was told to stop: its thread is left behind",
            INTERRUPT_PATIENCE_S,
        )

    def close(self) -> None:
        """Let idle threads end; a busy one ends with the process."""
        with self._lock:
            self._is_closed = True
            resting, self._resting = self._resting, []
        for hand in resting:
            hand.is_dismissed = True
            hand.bell.release()

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
        if self._waited is None:
            self._waited = self.handover(_wake)
        call = _Waited(function, variables, self._waited)
        self.put((call,))
        try:
            await call.ended.wait()
        except asyncio.CancelledError:
            on_timeout()
            await self._stop(call)
            if call.error is not None or not call.ended.is_set():
                raise
        if call.error is not None:
            raise call.error
        return call.result

    async def _stop(self, call: _Waited) -> None:
        call.is_stopped = True
        self.interrupt(call)
        try:
            async with asyncio.timeout(INTERRUPT_PATIENCE_S):
                await call.ended.wait()
        except TimeoutError:
            self.abandon(call)

    def _summon(self) -> None:
        """Have a thread be on its way to what waits."""
        with self._lock:
            if self._seekers:
                return
            self._seekers.append(None)
            hand = self._resting.pop() if self._resting else None
            if hand is None:
                self._count += 1
        if hand is None:
            self._start()
        else:
            hand.bell.release()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._serve, name=f"fairlane-handler-{self._count}", daemon=True).start()
        except RuntimeError:
            self._seekers.pop()
            if not self._hands:
                raise
            # What waits has to wait for one of those that there are.
            _logger.exception("the system starts no more than %d threads for handlers", len(self._hands))

    def _serve(self) -> None:
        hand = Hand()
        self._hands.append(hand)
        calls, seekers = self._calls, self._seekers
        while True:
            try:
                call = calls.popleft()
            except IndexError:
                self._tell()
                if calls or self._rest(hand):
                    continue
                break
            hand.call = call
            seekers.pop()
            if (calls or self._is_untold) and not seekers:
                # Whoever comes gets a turn when this call waits for something, or has had its share of the interpreter.
                self._summon()
            call.work(hand)
            hand.call = None
            if call.is_abandoned:
                break
            # First: what comes for this call's end needs no other thread.
            seekers.append(None)
            call.done()
            self._is_untold = True
        self._hands.remove(hand)

    def _rest(self, hand: Hand) -> bool:
        """Wait for something to do; whether there may be something, or this thread should end."""
        with self._lock:
            self._seekers.pop()
            if self._calls:
                # Whoever put it saw a thread that looks for calls, and woke none.
                self._seekers.append(None)
                return True
            if self._is_closed:
                return False
            self._resting.append(hand)
        hand.bell.acquire()
        if hand.is_dismissed:
            return False
        self._tell()
        return True

    def _tell(self) -> None:
        """Tell the loop of all that is done, as far as it has to know."""
        if self._is_untold:
            self._is_untold = False
            if self.on_done is not None:
                self.on_done()
            for handover in self._handovers:
                handover.tell()


class _Waited(Call):
    """A call that a coroutine waits for."""

    __slots__ = ("_function", "_handover", "_variables", "ended", "error", "result")

    def __init__(self, function: Callable[[], Any], variables: ContextVars, handover: Handover[_Waited]) -> None:
        super().__init__()
        self._function = function
        self._variables = variables
        self._handover = handover
        self.ended = asyncio.Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def work(self, hand: Hand) -> None:
        try:
            self.result = self._variables.run(hand.run, self, self._function)
        except BaseException as error:  # noqa: BLE001 - the verdict decides what it means
            self.error = error

    def done(self) -> None:
        self._handover.gather(self)


def _wake(calls: Sequence[_Waited]) -> None:
    for call in calls:
        call.ended.set()


def _raise_in(thread_id: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(error))


def _raise_here() -> NoReturn:
    """Have an interruption arrive here and now, in place of one that is on its way to this thread.

    Before 3.13 a flag of all threads says that one is on its way to somebody, and only an arrival takes it down; to
    take an interruption back leaves it up for ever. While it is up every thread asks at every jump whether it is
    meant, and under 3.11 a function that is traced, by a debugger say, does not even begin.
    """
    _raise_in(threading.get_ident(), Interrupted)
    while True:
        pass
