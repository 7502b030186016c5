"""The executor: runs what the feed gives it, on one event loop, as many at once as it may.

Invariant: whatever starts ends in exactly one outcome, which goes to the settler before the slot is free again. Whoever
hands on and starts holds the lock of the driver: the loop's thread, or a thread of `def` handlers that has nothing else
to do. Everything else here happens on the loop's thread; others only wake it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Container, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

from fairlane.consumer.attempt import Attempts
from fairlane.consumer.batch_attempt import BatchAttempts
from fairlane.consumer.cancelling import Cancelling
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.feed import Feed
from fairlane.consumer.gathering import Batch
from fairlane.consumer.meter import Meter
from fairlane.consumer.outcome import Moved, Outcome
from fairlane.consumer.outcome_log import tell
from fairlane.consumer.settler import Settler
from fairlane.consumer.thread_attempts import ThreadAttempts
from fairlane.topics.clock import now_ms

_logger = logging.getLogger("fairlane.executor")


class Running(NamedTuple):
    """An attempt under way."""

    delivery: Delivery
    since_ms: int
    task: asyncio.Task[None] | None
    """What runs it on the loop; None for one that is on a thread from its beginning to its end."""
    others: Batch = ()
    """Those that run with it, if it is the first of a batch."""
    is_batch: bool = False


class Executor:
    """Runs attempts.

    Args:
        config: of the worker.
        feed: gives what is ready to run; the executor is its driver.
        attempts: runs one.
        settler: takes the outcomes.
        meter: counts them.
        on_crash: told of an error that is a bug; the worker must end.
        batches: runs several at once; None where no type runs in batches.
    """

    def __init__(
        self,
        config: WorkerConfig,
        feed: Feed,
        attempts: Attempts,
        settler: Settler,
        meter: Meter,
        *,
        on_crash: Callable[[BaseException], None],
        batches: BatchAttempts | None = None,
    ) -> None:
        self._on_crash = on_crash
        self._concurrency = config.concurrency
        self._unsettled_max = config.unsettled_max
        self._unsettled_max_bytes = config.buffer_bytes
        self._feed = feed
        self._attempts = attempts
        alone = attempts.all_in_place and batches is None
        self._on_threads = ThreadAttempts(
            attempts, self._hand_on, on_crash=on_crash, go_on=self._go_on if alone else None
        )
        self.driving = self._on_threads.driving
        """Held by whoever drives the feed: hands on what ended and starts what is next."""
        self._batches = batches
        self._settler = settler
        self._meter = meter
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = False
        self._draining = False
        self._is_short = False
        """Whether something waits for a slot, or for one of its type: then every end of an attempt is worth a look."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms: int | None = None
        self._running: dict[int, Running] = {}
        """Those that have not ended when their start returns; a slot is taken by each that started."""
        self._left_behind: set[int] = set()
        """Those that were given up and are still on the loop."""
        attempts.on_stuck = self._leave_behind
        self._cancelling = Cancelling(attempts, self._on_threads, self._running, self._leave_behind)
        self._busy = 0
        self._ended: list[tuple[Delivery, Outcome]] = []
        self._next = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def start(self) -> None:
        """Begin on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._on_threads.begin()
        self.wake()

    def wake(self) -> None:
        """There is something new; any thread."""
        loop = self._loop
        if loop is None or self._woken:
            return
        self._woken = True
        try:
            loop.call_soon_threadsafe(self._pump)
        except RuntimeError:
            # The loop is closed: the worker is ending and nothing more will start.
            return

    @property
    def running(self) -> Mapping[int, Running]:
        """The attempts under way now, with the records that they were started from; any thread."""
        running = dict(self._running)
        on_threads = self._on_threads.running
        running.update((~at, Running(call.delivery, call.since_ms, None)) for at, call in enumerate(on_threads))
        return running

    def move_aside(self, started: Delivery, target: Assigned, moment_ms: int) -> None:
        """Let a copy of a running attempt's record stand for it, so that the record is settled and the attempt goes on.

        Args:
            started: what the attempt was started from; it is not away.
            target: a partition that this worker holds: the copy is written there, and read again.
            moment_ms: Unix ms.
        """
        delivery = self._feed.aside.moved(started, target)
        self._settler.post(Moved(delivery, moment_ms, target))
        self._feed.done(delivery, moment_ms, goes_on=True)

    def cancel(self, task_ids: Container[str]) -> None:
        """Take attempts away from their handlers whose tasks operators have cancelled; any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._cancelling.cancel, task_ids)

    async def drain(self, grace_s: float) -> bool:
        """Start nothing more and wait for what runs; whether all of it ended within the grace."""
        self._draining = True
        try:
            async with asyncio.timeout(grace_s):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    async def hand_back(self, patience_s: float) -> bool:
        """Take what still runs away from its handlers; whether all of it let go in time."""
        self.leave()
        self._on_threads.stop()
        for running in self._running.values():
            if running.task is not None:
                running.task.cancel()
        try:
            async with asyncio.timeout(patience_s):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    def leave(self) -> None:
        """From now on an attempt that is cancelled is handed back and has not failed."""
        self._draining = True
        self._attempts.leaving = True

    def _pump(self) -> None:
        self._woken = False
        try:
            with self.driving:
                if not self._busy:
                    self._quiet.set()
                self._start_some()
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
            self._on_crash(error)

    def _start_some(self) -> None:
        moment_ms = now_ms()
        self._feed.refresh(moment_ms)
        # True while tasks start: one that is over when its start returns leaves its slot to the next.
        self._is_short = not self._draining
        if not self._draining:
            free = self._concurrency - self._busy
            keeps_up = self._keeps_up
            if free > 0 and keeps_up and self._batches is not None:
                self._start_gathered(free, moment_ms)
            elif free > 0 and keeps_up:
                self._start_alone(self._on_threads.start(self._take(free, moment_ms), moment_ms), moment_ms)
            elif free > 0:
                # Outcomes come faster than Kafka takes them: look again when some are settled.
                self._at(moment_ms + 20)
                return
            self._is_short = self._feed.waiting > 0
        due_ms = self._feed.next_due_ms
        if due_ms is not None:
            self._at(due_ms)

    @property
    def _keeps_up(self) -> bool:
        """Whether Kafka takes outcomes as they come."""
        settler = self._settler
        return settler.backlog < self._unsettled_max and settler.backlog_bytes < self._unsettled_max_bytes

    def _take(self, free: int, moment_ms: int) -> list[Delivery]:
        started = self._feed.take(free)
        self._begin(len(started), moment_ms)
        return started

    def _at(self, due_ms: int) -> None:
        assert self._loop is not None
        self._timer_ms = due_ms
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, (due_ms - now_ms()) / 1000), self.wake)

    def _start_alone(self, deliveries: list[Delivery], moment_ms: int) -> None:
        for delivery in deliveries:
            self._start(delivery, moment_ms)

    def _start(self, delivery: Delivery, moment_ms: int) -> None:
        assert self._loop is not None
        number = self._next
        self._next += 1
        task = _spawn(self._run(number, delivery), self._loop)
        if not task.done():
            self._running[number] = Running(delivery, moment_ms, task)

    def _begin(self, slots: int, moment_ms: int) -> None:
        """So many slots are taken, each until what runs in it is handed on, also if that has ended at once."""
        if slots:
            self._meter.started(moment_ms, slots)
            self._busy += slots
            self._quiet.clear()

    def _start_gathered(self, free: int, moment_ms: int) -> None:
        assert self._loop is not None
        alone, batches = self._feed.gather(free, moment_ms)
        self._begin(len(alone) + len(batches), moment_ms)
        self._start_alone(self._on_threads.start(alone, moment_ms), moment_ms)
        for batch in batches:
            number = self._next
            self._next += 1
            self._meter.batch_started(batch[0].task.type, len(batch))
            running = _spawn(self._run_batch(number, batch), self._loop)
            self._running[number] = Running(batch[0], moment_ms, running, batch[1:], is_batch=True)

    async def _run_batch(self, number: int, batch: Batch) -> None:
        assert self._batches is not None
        assert self._loop is not None
        outcomes = await self._batches.run(batch)
        if number in self._left_behind:
            self._left_behind.discard(number)
            return
        self._loop.call_soon(self._hand_on_batch, number, batch, outcomes)
        for outcome in outcomes:
            tell(outcome)

    def _hand_on_batch(self, number: int, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Give what became of a batch to the settler, and only then its one slot to others."""
        try:
            ended_ms = now_ms()
            at_home = list(zip(batch, outcomes, strict=True))
            if self._feed.aside:
                at_home, away = self._feed.aside.sort_out(at_home)
                for delivery, _ in away:
                    self._feed.ended_away(delivery)
            self._settler.post(*[outcome for _, outcome in at_home])
            self._running.pop(number, None)
            self._meter.batch_ended(outcomes, ended_ms)
            self._feed.batch_done(batch, ended_ms, [delivery for delivery, _ in at_home])
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
            self._on_crash(error)
        self._freed(1)

    def _leave_behind(self, task: asyncio.Task[Any]) -> None:
        """Go on without an attempt that was cut off and does not end: whatever becomes of it now, it has failed."""
        number = next((number for number, each in self._running.items() if each.task is task), None)
        if number is None:
            return
        running = self._running.pop(number)
        self._left_behind.add(number)
        _logger.error(
            "a handler of %s swallows its cancellation and goes on: it is left behind on the event loop",
            running.delivery.task.type,
            extra={"task_id": running.delivery.task.id},
        )
        batch = (running.delivery, *running.others)
        outcomes = [self._attempts.left_behind(each, running.since_ms) for each in batch]
        if running.is_batch:
            self._hand_on_batch(number, batch, outcomes)
        else:
            self._hand_on([(running.delivery, outcomes[0])])
        for outcome in outcomes:
            tell(outcome)

    async def _run(self, number: int, delivery: Delivery) -> None:
        outcome = await self._attempts.run(delivery)
        if self._left_behind and number in self._left_behind:
            self._left_behind.discard(number)
            return
        self._running.pop(number, None)
        self._ended.append((delivery, outcome))
        if len(self._ended) == 1 and self._loop is not None:
            # All that end in this turn of the loop are handed on together in the next.
            self._loop.call_soon(self._hand_on_all)
        # Last, since it is the user's handlers and filters that it goes through.
        tell(outcome)

    def _hand_on_all(self) -> None:
        ended, self._ended = self._ended, []
        with self.driving:
            self._hand_on(ended)

    def _hand_on(self, ended: list[tuple[Delivery, Outcome]]) -> None:
        """Give what has ended to the settler, and only then its slots to others."""
        self._note(ended)
        self._freed(len(ended))

    def _go_on(self, ended: list[tuple[Delivery, Outcome]]) -> None:
        """Do the same on a thread of a handler, which then goes on with what starts, without a turn of the loop.

        What only the loop can do is left to it: timers, and whoever waits for all to be quiet.
        """
        assert self._loop is not None
        self._note(ended)
        self._busy -= len(ended)
        goes_on = False
        try:
            moment_ms = now_ms()
            self._feed.refresh(moment_ms)
            if self._keeps_up and not self._draining:
                started = self._take(self._concurrency - self._busy, moment_ms)
                if others := self._on_threads.start(started, moment_ms):
                    self._loop.call_soon_threadsafe(self._start_alone, others, moment_ms)
                self._is_short = self._feed.waiting > 0
                goes_on = self._busy > 0 and self._feed.next_due_ms in (None, self._timer_ms)
        finally:
            if not goes_on:
                self.wake()

    def _note(self, ended: list[tuple[Delivery, Outcome]]) -> None:
        try:
            ended_ms = now_ms()
            meter, feed = self._meter, self._feed
            at_home = ended
            if feed.aside:
                at_home, away = feed.aside.sort_out(ended)
                for delivery, outcome in away:
                    meter.ended(outcome, ended_ms)
                    feed.ended_away(delivery)
            self._settler.post(*[outcome for _, outcome in at_home])
            for delivery, outcome in at_home:
                meter.ended(outcome, ended_ms)
                feed.done(delivery, ended_ms)
            if feed.adapts:
                feed.adapt(ended, ended_ms)
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
            self._on_crash(error)

    def _freed(self, slots: int) -> None:
        self._busy -= slots
        if not self._busy:
            self._quiet.set()
        if self._is_short:
            self._pump()


def _spawn(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    if sys.version_info >= (3, 12):
        # A handler that never waits is over when this returns: no turn of the loop for it.
        return asyncio.Task(coroutine, loop=loop, eager_start=True)
    return loop.create_task(coroutine)
