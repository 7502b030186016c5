"""Attempts of plain `def` handlers: each from its beginning to its end on one thread, without the event loop.

Invariant: each attempt that starts is handed on exactly once: with what its thread made of it, or, when that is left
behind in C code, with what it means that it was stopped. Whoever hands on holds the lock of the driver: the loop, or a
thread that has nothing else to do and then goes on with what starts next. Those with a time limit share one timer, and
the time of an attempt runs only while its handler does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Container, Coroutine
from contextvars import copy_context
from typing import Any

from fairlane.consumer import threads as on_threads
from fairlane.consumer.attempt import Arguments, Attempts, Begun
from fairlane.consumer.attempt_span import with_span
from fairlane.consumer.control_state import cancel_of
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.handover import Handover
from fairlane.consumer.outcome import Outcome
from fairlane.consumer.outcome_log import tell
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.threads import Call, Hand, Interrupted
from fairlane.consumer.verdict import AttemptTimeout, CancelledByOperator
from fairlane.topics.errors import InvariantBroken

Ended = list[tuple[Delivery, Outcome]]


class ThreadAttempts:
    """Runs attempts on threads.

    Args:
        attempts: makes one.
        on_ended: given those that are over, on the loop.
        on_crash: told of an error that is a bug.
        go_on: given those that are over, on any thread, it starts what comes next too; None leaves both to the loop.

    Attributes:
        driving: the lock of the driver, which `on_ended` and `go_on` are called with.
    """

    def __init__(
        self,
        attempts: Attempts,
        on_ended: Callable[[Ended], None],
        *,
        on_crash: Callable[[BaseException], None],
        go_on: Callable[[Ended], None] | None = None,
    ) -> None:
        self.driving = threading.RLock()
        self.attempts = attempts
        self.on_crash = on_crash
        self._on_ended = on_ended
        self._go_on = go_on
        self._types = attempts.in_place
        self._threads = attempts.threads
        self._started: set[ThreadAttempt] = set()
        """Those that are not handed on yet."""
        self._look_s = math.inf
        """When the timer looks after those with a time limit, on the monotonic clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self.handover: Handover[ThreadAttempt]
        # What is set where the worker begins (by its lifespan, say) is set in its handlers, each in a copy of its own.
        self.variables = copy_context()

    def begin(self) -> None:
        """From now on attempts may start; on the running loop."""
        self._loop = asyncio.get_running_loop()
        self.handover = self._threads.handover(self._ended)
        if self._go_on is not None:
            self._threads.on_done = self._drive
        self.variables = copy_context()

    def start(self, deliveries: list[Delivery], moment_ms: int) -> list[Delivery]:
        """Start those that need no loop; returns the others."""
        types = self._types
        if not types:
            return deliveries
        calls = [ThreadAttempt(self, each, moment_ms) for each in deliveries if each.task.type in types]
        if not calls:
            return deliveries
        self._started.update(calls)
        self._threads.put(calls)
        if len(calls) == len(deliveries):
            return []
        return [each for each in deliveries if each.task.type not in types]

    @property
    def running(self) -> list[ThreadAttempt]:
        """Those that a thread runs; any thread."""
        return [call for call in self._threads.running if isinstance(call, ThreadAttempt)]

    def stop(self) -> None:
        """Take all that run away from their handlers."""
        for call in list(self._started):
            self._stop(call)

    def cancel(self, task_ids: Container[str]) -> None:
        """Take those of these ids that operators have cancelled away from their handlers; on the loop."""
        for call in self.running:
            task = call.delivery.task
            if task.id in task_ids and not call.is_stopped and cancel_of(self.attempts.cancels, task) is not None:
                call.is_cancelled = True
                self._stop(call)

    def watch(self, deadline_s: float) -> None:
        """Have the timer look at that time; any thread, which has noted it before."""
        if deadline_s < self._look_s:
            self._look_s = deadline_s
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        """Stop those whose time is up, and look again when the next one's is."""
        # First: a thread that notes a deadline after this look over all of them tells of it.
        self._look_s = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        moment_s = time.monotonic()
        next_s = math.inf
        for call in self.running:
            deadline_s = call.deadline_s
            if deadline_s > moment_s:
                next_s = min(next_s, deadline_s)
            elif not call.is_stopped:
                call.is_late = True
                self._stop(call)
        if next_s < math.inf:
            self._look_s = next_s
            self._timer = self._loop.call_later(next_s - moment_s, self._look)

    def _stop(self, call: ThreadAttempt) -> None:
        call.is_stopped = True
        if call.begun is not None:
            call.begun.context.cancel()
        self._threads.interrupt(call)
        self._loop.call_later(on_threads.INTERRUPT_PATIENCE_S, self._give_up, call)

    def _give_up(self, call: ThreadAttempt) -> None:
        with self.driving:
            if call not in self._started:
                return
            self._threads.abandon(call)
            try:
                outcome = call.left_behind()
                self._started.discard(call)
                self._on_ended([(call.delivery, outcome)])
            except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
                self.on_crash(error)
                return
        tell(outcome)

    def _ended(self, calls: list[ThreadAttempt]) -> None:
        with self.driving:
            self._on_ended(self._over(calls))

    def _drive(self) -> None:
        """Do what the loop would be told to do; on a thread that has nothing else to do."""
        if self._go_on is None or not self.driving.acquire(blocking=False):
            return
        try:
            ended = self._over(self.handover.withdraw())
            if ended:
                self._go_on(ended)
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
            self.on_crash(error)
        finally:
            self.driving.release()

    def _over(self, calls: list[ThreadAttempt]) -> Ended:
        """What these led to, of those that are not handed on yet."""
        self._started.difference_update(calls)
        return [(call.delivery, call.outcome) for call in calls if call.outcome and not call.is_abandoned]


class ThreadAttempt(Call):
    """One attempt.

    Attributes:
        delivery: the task.
        since_ms: when it started, Unix ms.
        begun: what its handler was called with; None before that.
        deadline_s: when the time of its handler is up, on the monotonic clock.
        is_late: whether it was stopped since its time was up.
        is_cancelled: whether it was stopped since an operator cancelled its task.
        outcome: what it led to; None before that.
    """

    __slots__ = ("_hand", "_owner", "begun", "deadline_s", "delivery", "is_cancelled", "is_late", "outcome", "since_ms")

    def __init__(self, owner: ThreadAttempts, delivery: Delivery, since_ms: int) -> None:
        self.is_stopped = self.is_abandoned = self.is_late = self.is_cancelled = False
        self._owner = owner
        self.delivery = delivery
        self.since_ms = since_ms
        self.begun: Begun | None = None
        self.deadline_s = math.inf
        self.outcome: Outcome | None = None

    def work(self, hand: Hand) -> None:
        """Make its outcome; on its thread."""
        if self.is_abandoned:
            return
        self._hand = hand
        owner = self._owner
        try:
            outcome = owner.variables.copy().run(_to_its_end, owner.attempts.run(self.delivery, self))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
            owner.on_crash(error)
            return
        self.outcome = outcome
        if not self.is_abandoned:
            # A filter of the user's that raises holds nothing up.
            with contextlib.suppress(Exception):
                tell(outcome)

    def done(self) -> None:
        """Hand it on."""
        self._owner.handover.gather(self)

    def call(self, begun: Begun, arguments: Arguments) -> Any:
        """Call its handler, within its time."""
        self.begun = begun
        positional, named = arguments
        function = begun.handler.function
        if begun.timeout_s is None:
            return self._hand.run(self, function, positional, named)
        self.deadline_s = deadline_s = time.monotonic() + begun.timeout_s
        self._owner.watch(deadline_s)
        try:
            return self._hand.run(self, function, positional, named)
        finally:
            self.deadline_s = math.inf

    def left_behind(self) -> Outcome:
        """What it led to, since its thread does not come back to say so."""
        attempts, begun = self._owner.attempts, self.begun
        error = self.meaning(Interrupted())
        if begun is None:
            # It sits in a validator of the payload.
            return attempts.failed(self.delivery, RetryPolicy(), error, self.since_ms)
        outcome = attempts.ended_by(error, self.delivery, begun.handler, begun.started_ms, begun.processing)
        begun.processing.end()
        return with_span(outcome, begun.processing)

    def meaning(self, error: BaseException) -> BaseException:
        """What it failed of: its time, the worker that leaves, or what its handler raised."""
        if not self.is_stopped:
            return error
        meant: BaseException = asyncio.CancelledError()
        if self.is_cancelled:
            meant = CancelledByOperator()
        elif self.is_late and self.begun is not None and self.begun.timeout_s is not None:
            meant = AttemptTimeout(self.begun.timeout_s)
        meant.__cause__ = error
        return meant


def _to_its_end(coroutine: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run a coroutine that awaits nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    raise InvariantBroken("an attempt on a thread awaits something")
