"""One worker process: everything of it on one event loop, from the first check of the queue to the last settlement.

Invariant: it starts nothing on a queue that would lose data, and it ends by the steps of `shutdown`, whatever ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Any, Final

import msgspec

from fairlane.consumer import heartbeat
from fairlane.consumer.attempt import Attempts
from fairlane.consumer.batch_attempt import BatchAttempts
from fairlane.consumer.children import Children
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.control import Control
from fairlane.consumer.engine import Engine
from fairlane.consumer.executor import Executor
from fairlane.consumer.handlers import Handlers, Middleware
from fairlane.consumer.head_watch import HeadWatch
from fairlane.consumer.health import State
from fairlane.consumer.heartbeat import Pulse
from fairlane.consumer.meter import Meter
from fairlane.consumer.metrics import WorkerMetrics
from fairlane.consumer.schedule_machine import Deployment
from fairlane.consumer.shutdown import Event, Phase, Shutdown
from fairlane.consumer.takeover import TakeOver
from fairlane.consumer.threads import Threads
from fairlane.consumer.trimming import Trimming
from fairlane.consumer.vitals import Vitals
from fairlane.topics.check import check_queue, owners_lack
from fairlane.topics.clock import now_ms
from fairlane.topics.difference import grouped
from fairlane.topics.events import Heartbeat, Pool, RunningTask
from fairlane.topics.metrics.measure import Reading
from fairlane.topics.topology import Topology

_logger = logging.getLogger("fairlane.worker")

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
SETTLE_TIMEOUT_S: Final = 20.0
CUT_PATIENCE_S: Final = 6.0
DEAF_S: Final = 0.5
"""How long a second signal waits for an event loop that is held up."""


@contextlib.asynccontextmanager
async def no_lifespan() -> AsyncIterator[None]:
    """Handlers share nothing that must be opened."""
    yield


class Worker:
    """A worker of a queue.

    Args:
        config: its settings.
        handlers: by task type.
        lifespan: opens what handlers share, once per process, on the loop that runs them.
        middleware: wraps every attempt, the first one outermost.
        version: shown in the heartbeats.
        deployment: the schedules of the app.
    """

    def __init__(
        self,
        config: WorkerConfig,
        handlers: Handlers,
        *,
        lifespan: Lifespan = no_lifespan,
        middleware: Sequence[Middleware] = (),
        version: str = "",
        deployment: Deployment = Deployment(),  # noqa: B008 - frozen
    ) -> None:
        self.config = config
        self._lifespan = lifespan
        self._version = version
        self._deployment = deployment
        self._handler_count = len(handlers)
        self._shutdown = Shutdown()
        self._grace_s = config.grace_s
        self._threads = Threads()
        self._meter = Meter(config.concurrency, handlers)
        self._children = Children(config, handlers, decode=bool(middleware))
        self._attempts = Attempts(config, handlers, middleware, self._threads, self._children)
        self._engine = Engine(
            config,
            handlers,
            wake=self._wake,
            on_crash=self._crashed,
            on_settled=lambda outcomes: self._control.settled(outcomes),
        )
        self._control = Control(
            config, on_orders=self._engine.obey, on_cancelled=lambda task_ids: self._executor.cancel(task_ids)
        )
        self._attempts.cancels = self._control.cancels
        self._executor = Executor(
            config,
            self._engine.feed,
            self._attempts,
            self._engine.settler,
            self._meter,
            on_crash=self._crashed,
            batches=BatchAttempts(config, handlers, self._attempts) if self._engine.feed.gathers else None,
        )
        self._heads = HeadWatch(config, handlers, self._engine, self._executor, on_crash=self._crashed)
        self._pulse: Pulse | None = None
        self.vitals = Vitals(config, self._engine, self._state, self._acknowledged_s, self._metrics)
        self._stop = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._is_asked = False
        self._signals = 0
        self._crash: BaseException | None = None
        self._fell = asyncio.Event()
        self.pool: Pool | None = None
        """The pool that it is one of, to be shown in its heartbeats; its supervisor's word."""
        self.ready = threading.Event()
        """Set when it reads and runs tasks."""

    async def run(self) -> int:
        """Work until `stop` is called; returns the exit code of the CLI's contract.

        Raises:
            FairlaneError: it cannot start: Kafka does not answer, the queue is broken, its health port is taken.
            BaseException: what a thread of the worker failed with.
        """
        self.loop = asyncio.get_running_loop()
        if self._is_asked:
            self._asked()
        self.vitals.start()
        try:
            return await self._work()
        finally:
            await asyncio.to_thread(self._control.stop, 2.0)
            await asyncio.to_thread(self.vitals.close)

    async def _work(self) -> int:
        if not self._stop.is_set():
            await asyncio.to_thread(self._check)
        if not self._stop.is_set():
            self._control.start()
            await asyncio.to_thread(self._control.wait_known, self._stop.is_set)
        if self._stop.is_set():
            _logger.info("asked to end before it had begun")
            return self._shutdown.exit_code
        async with self._lifespan(), self._children:
            self._engine.start()
            take_over = TakeOver(self.config)
            take_over.start()
            pulse = self._pulse = Pulse(self.config, self._version, self._look)
            pulse.start()
            trimming = asyncio.create_task(self._trim(take_over), name="fairlane-trimming")
            heads = asyncio.create_task(self._heads.run(), name="fairlane-heads")
            self._executor.start()
            self.ready.set()
            _logger.info(
                "working on queue %s as %s: %d task types, %d at once",
                self.config.queue,
                self.config.worker,
                self._handler_count,
                self.config.concurrency,
            )
            try:
                await self._stop.wait()
                heads.cancel()
                if not self._has_crashed():
                    await self._heads.homing()
                await self._end()
            finally:
                heads.cancel()
                trimming.cancel()
                await asyncio.to_thread(take_over.stop, 2.0)
                await asyncio.to_thread(pulse.close, 2.0)
                self._threads.close()
        if self._crash is not None:
            raise self._crash
        _logger.info("ended with exit code %d", self._shutdown.exit_code)
        return self._shutdown.exit_code

    def stop(self, grace_s: float | None = None) -> None:
        """Ask it to end in good order; any thread, at any time: one that has not begun will not.

        Args:
            grace_s: how long running attempts may go on, seconds; at most, and by default, what is configured.
        """
        if grace_s is not None:
            self._grace_s = min(self._grace_s, grace_s)
        # First: whoever makes the loop known looks here after that.
        self._is_asked = True
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._asked)

    def handle_signals(self) -> None:
        """End at SIGTERM and SIGINT; at the second one at once. Call it on the running loop of the main thread."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
            # In place of asyncio's own, which does nothing: it is the loop's wake-up that calls `_signalled`.
            signal.signal(number, self._heard)
            signal.siginterrupt(number, False)

    def _heard(self, number: int, _frame: object) -> None:
        """A signal came, between any two steps of the main thread: the loop may be held up for ever."""
        self._signals += 1
        if self._signals > 1:
            timer = threading.Timer(DEAF_S, os._exit, (128 + number,))
            timer.daemon = True
            timer.start()

    def _signalled(self, number: int) -> None:
        if self._shutdown.phase is not Phase.RUNNING:
            _logger.warning("ending at once; what runs will be run again")
            # Nothing that runs is settled, so nothing is lost; the clean flag is not written, so it is looked into.
            os._exit(128 + number)
        _logger.info("ending: what runs may end within %g s; a second signal ends at once", self._grace_s)
        self._asked()

    def _asked(self) -> None:
        if self._shutdown.phase is Phase.RUNNING:
            self._shutdown.on(Event.STOP)
            self._stop.set()

    def _crashed(self, error: BaseException) -> None:
        """Called on the thread that failed."""
        _logger.critical("the worker failed and ends", exc_info=error)
        self._crash = error
        loop = self.loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._fall)

    def _fall(self) -> None:
        self._fell.set()
        self._stop.set()

    def _has_crashed(self) -> bool:
        return self._crash is not None

    def _wake(self) -> None:
        self._executor.wake()

    def _check(self) -> None:
        """Refuse a queue that would lose data, and say what else is not as it should be."""
        topology = Topology.of(self.config.names, lanes=self.config.lanes, tiers=self.config.tiers)
        differences = check_queue(self.config.connection, topology)
        for warning in grouped(differences):
            _logger.warning("%s", warning)
        without = owners_lack(self.config.names, differences)
        if not without:
            self._engine.own(self._deployment)
        elif self._deployment.schedules:
            _logger.error(
                "the app defines %d schedules, and they are off, since the queue lacks %s: `fairlane topics create "
                "--queue %s` makes it, then start the workers again",
                len(self._deployment.schedules),
                without,
                self.config.queue,
            )

    async def _trim(self, take_over: TakeOver) -> None:
        trimming = Trimming(self.config)
        while self.config.keep_s is not None:
            await asyncio.sleep(self.config.trim_period_s)
            if take_over.first:
                await asyncio.to_thread(trimming.run, now_ms())

    async def _end(self) -> None:
        if self._has_crashed():
            await self._end_at_once()
            return
        self._engine.reader.drain()
        quiet = await self._drain()
        if self._has_crashed():
            await self._end_at_once()
            return
        phase = self._shutdown.on(Event.QUIET if quiet else Event.GRACE_OVER)
        if phase is Phase.CUTTING:
            _logger.warning("the grace of %g s is over: handing back what still runs", self._grace_s)
            quiet = await self._executor.hand_back(CUT_PATIENCE_S)
            self._shutdown.on(Event.QUIET if quiet else Event.GRACE_OVER)
        settled = await asyncio.to_thread(self._engine.stop, SETTLE_TIMEOUT_S)
        if not settled:
            _logger.error("could not settle everything in %g s; it will be run again", SETTLE_TIMEOUT_S)
        if self._has_crashed():
            self._shutdown.on(Event.CRASHED)
        else:
            self._shutdown.on(Event.SETTLED if settled else Event.UNSETTLED)

    async def _end_at_once(self) -> None:
        self._shutdown.on(Event.CRASHED)
        # Inside of somebody's program its threads would go on holding partitions, and run nothing of them.
        await self._executor.hand_back(CUT_PATIENCE_S)
        await asyncio.to_thread(self._engine.stop, SETTLE_TIMEOUT_S)

    async def _drain(self) -> bool:
        """Let what runs end; whether all of it did within the grace, and before a thread of the worker failed."""
        drain = asyncio.create_task(self._executor.drain(self._grace_s))
        fall = asyncio.create_task(self._fell.wait())
        try:
            await asyncio.wait((drain, fall), return_when=asyncio.FIRST_COMPLETED)
            return drain.done() and drain.result()
        finally:
            drain.cancel()
            fall.cancel()

    def _state(self) -> State:
        if self._shutdown.phase is Phase.RUNNING and not self.ready.is_set():
            return "starting"
        return _STATES[self._shutdown.phase]

    @property
    def beat(self) -> Heartbeat | None:
        """What it last said of itself; None before that."""
        return self._pulse.last if self._pulse is not None else None

    def _acknowledged_s(self) -> float | None:
        return self._pulse.acknowledged_s if self._pulse is not None else None

    def measured(self) -> Iterator[Reading]:
        """What it measures, now; from any thread."""
        return WorkerMetrics(
            self.config, self._engine, self._meter, self._children, self._threads, self.vitals, lambda: self.beat
        ).collect()

    def _metrics(self, accept: str) -> tuple[str, bytes]:
        # A worker that nobody scrapes does not need the library.
        from fairlane.topics.metrics.page import page

        return page(self.measured, accept)

    def _look(self, fixed: Heartbeat) -> Heartbeat:
        moment_ms = now_ms()
        feed, running = self._engine.feed, self._executor.running
        long_ones = (
            (feed.aside.home(delivery) or delivery, each.since_ms)
            for each in running.values()
            if moment_ms - each.since_ms >= heartbeat.LONG_MS
            for delivery in (each.delivery, *each.others)
        )
        listed = tuple(
            RunningTask(
                delivery.task.id,
                delivery.task.type,
                since_ms,
                f"{delivery.assigned.topic}/{delivery.assigned.partition}",
                delivery.offset,
            )
            for delivery, since_ms in islice(long_ones, heartbeat.LISTED_MAX)
        )
        return msgspec.structs.replace(
            fixed,
            state=_STATES[self._shutdown.phase],
            at_ms=moment_ms,
            running=len(running),
            utilisation=round(self._meter.utilisation(moment_ms), 4),
            buffered=feed.waiting,
            delayed=feed.delayed + feed.places.standing_by,
            partitions=tuple(f"{each.topic}/{each.partition}" for each in self._engine.reader.held),
            counters=self._meter.counters,
            running_tasks=listed,
            held_back=self._heads.shown,
            types=self._meter.types(moment_ms),
            limits=feed.limits,
            oldest_ms=feed.places.oldest_ms(moment_ms),
            cpu=round(self._meter.cpu(time.process_time(), moment_ms), 3),
            pool=self.pool,
        )


_STATES: Final[dict[Phase, State]] = {
    Phase.RUNNING: "running",
    Phase.DRAINING: "draining",
    Phase.CUTTING: "draining",
    Phase.SETTLING: "draining",
    Phase.ENDED: "stopped",
}
