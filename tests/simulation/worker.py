"""One worker process of a world: fairlane's engine, and a driver in the place of its event loop.

Invariant: all that decides is fairlane's own. The driver starts what the feed gives, lets time go by, and makes the
outcome by `verdict`; it posts an outcome before its slot is free, as the executor does.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import msgspec

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.control_state import ControlState, cancel_of
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.engine import Engine
from fairlane.consumer.executor import Executor
from fairlane.consumer.handlers import Handler
from fairlane.consumer.head_watch import HeadWatch
from fairlane.consumer.orders import NO_ORDERS
from fairlane.consumer.outcome import TERMINAL_OUTCOMES, Cancelled, Completed, Expired, HandedBack, Moved, Outcome
from fairlane.consumer.schedule_machine import Deployment
from fairlane.consumer.signals import Reject
from fairlane.consumer.verdict import NoHandler, failed, unfit
from fairlane.topics.connection import Connection
from fairlane.topics.payload import Signature
from simulation.accounts import Accounts
from simulation.lanes import Lanes
from simulation.operating import Operating
from simulation.scenario import LOST_MAX, NAMES, RECORD_MAX_BYTES, Scenario
from simulation.stdlib import Event
from simulation.world import Process, ProcessKilled, World

BATCHED = "few"
"""The type of which only some run at once, or many together."""
HUGE = b'"' + b"x" * RECORD_MAX_BYTES + b'"'
SETTLE_S = 20.0
HOMING_S = 2.0
HEADS_S = 0.25
"""How often the heads of partitions are looked at; four times as often as in a worker, since a world is short."""


class Plan(msgspec.Struct):
    """What a task's handler does: its payload.

    Attributes:
        ms: how long it runs.
        fails: how many attempts fail.
        kind: `work`, `reject`, or `poison` which kills its worker.
        huge: whether its result is larger than its topic takes.
    """

    ms: int = 0
    fails: int = 0
    kind: str = "work"
    huge: bool = False


class Running(NamedTuple):
    """An attempt under way, as the executor shows it."""

    delivery: Delivery
    since_ms: int
    others: tuple[Delivery, ...] = ()


def _handle() -> None:
    """No handler is called here: what it does is its task's plan."""


class SimWorker:
    """A worker process, from its start to its end."""

    def __init__(
        self,
        world: World,
        scenario: Scenario,
        accounts: Accounts,
        name: str,
        start: int,
        skew_ms: int,
        killed_by: Callable[[str], None],
        operating: Operating,
    ) -> None:
        self.name = name
        self.process = Process(f"{name}#{start}", skew_ms)
        self.leaving = False
        self._world = world
        self._scenario = scenario
        self._accounts = accounts
        self._killed_by = killed_by
        self._operating = operating
        self._heard = 0
        """How many of the operator's words this worker has read."""
        self._control = ControlState(scenario.lanes, NAMES)
        self._told = NO_ORDERS
        self._paused: frozenset[str] = frozenset()
        self._types: frozenset[str] = frozenset()
        """Types of which nothing may start."""
        self._lanes = Lanes(scenario.lanes)
        self._bell = Event(world)
        self._cut = Event(world)
        self._busy = 0
        self._next = 0
        self.running: dict[int, Running] = {}
        self._handlers = {
            kind: Handler(kind, _handle, Signature.of(_handle), retry=scenario.retry, concurrency=limit, batch=batch)
            for kind, limit, batch in (("work", None, None), (BATCHED, scenario.limit, scenario.batch))
        }
        self.config = WorkerConfig(
            Connection("memory:1"),
            NAMES.queue,
            lanes=scenario.lanes,
            tiers=scenario.tiers,
            worker=name,
            instance_id=name if scenario.is_static else None,
            concurrency=scenario.concurrency,
            revoke_grace_s=scenario.revoke_grace_s,
            buffer_records=scenario.buffer_records,
            delayed_max=scenario.buffer_records,
            no_handler_s=20.0,
            worker_lost_max=LOST_MAX,
            head_of_line=scenario.head_of_line,
            head_of_line_records=scenario.head_records,
            head_of_line_s=0.5,
            start=str(start),
        )
        self._engine = Engine(
            self.config, self._handlers, wake=self._bell.set, on_crash=self._crashed, on_settled=self._settled
        )
        if scenario.schedules:
            self._engine.own(Deployment())
        executor = cast("Executor", self)
        self._heads = HeadWatch(self.config, self._handlers, self._engine, executor, on_crash=self._crashed)
        world.spawn(self._main, self.process)

    def _main(self) -> None:
        self._obey()
        self._engine.start()
        self._world.spawn(self._watch)
        while True:
            self._pump()
            due_ms = self._engine.feed.next_due_ms
            patience_s = 1.0 if due_ms is None else max(0.001, (due_ms - self._world.now_ms()) / 1000)
            self._bell.wait(patience_s)
            self._bell.clear()

    def _obey(self) -> None:
        """As the thread does that follows what operators ask."""
        for key, value in self._operating.log[self._heard :]:
            self._heard += 1
            self._control.note(key, value)
        orders = self._control.look(self._world.now_ms())
        if orders != self._told:
            self._told = orders
            # Surely paused is what both the old and the new word say, until the feed was told the new one.
            types = frozenset(kind for kind, asked in orders.types if asked.is_paused or asked.kills)
            self._paused &= orders.lanes
            self._types &= types
            self._engine.obey(orders)
            self._paused, self._types = orders.lanes, types

    def _settled(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, TERMINAL_OUTCOMES) and cancel_of(self._control.cancels, outcome.delivery.task):
                self._operating.take_back(outcome.delivery.task.id)

    def _watch(self) -> None:
        while not self.leaving:
            self._world.sleep(HEADS_S)
            self._obey()
            self._heads.look(self._world.now_ms())

    def move_aside(self, started: Delivery, target: Assigned, moment_ms: int) -> None:
        """As the executor does it."""
        self._accounts.moved += 1
        delivery = self._engine.feed.aside.moved(started, target)
        self._engine.settler.post(Moved(delivery, moment_ms, target))
        self._engine.feed.done(delivery, moment_ms, goes_on=True)

    def _crashed(self, error: BaseException) -> None:
        if isinstance(error, ProcessKilled) or not self.process.alive:
            return
        told = "".join(traceback.format_exception(error))
        self._accounts.violated("no crash", f"{self.process.name}: {told}")

    def _pump(self) -> None:
        feed, settler = self._engine.feed, self._engine.settler
        # Before the feed hears of more: what was told before this may not start any more.
        paused, types = self._paused, self._types
        feed.refresh(self._world.now_ms())
        free = self._scenario.concurrency - self._busy
        if self.leaving or free <= 0 or settler.backlog >= self.config.unsettled_max:
            return
        if feed.gathers:
            alone, batches = feed.gather(free, self._world.now_ms())
        else:
            alone, batches = self._take(free), []
        for attempt in (*((delivery,) for delivery in alone), *batches):
            if not (paused & self._paused).isdisjoint(delivery.task.lane for delivery in attempt):
                self._accounts.violated("paused", f"{attempt[0].task.origin} starts in a lane that is paused")
            if attempt[0].task.type in types & self._types:
                self._accounts.violated("paused", f"{attempt[0].task.origin} starts, of a type that may not")
            self._busy += 1
            self._world.spawn(partial(self._attempt, attempt))

    def _take(self, free: int) -> list[Delivery]:
        scheduler: Any = self._engine.feed._scheduler
        # What waits in a lane that is paused waits for nobody's turn.
        served = {lane.name for lane in scheduler._served}
        waiting = {lane.topic: scheduler.waiting(lane.topic) * (lane.topic in served) for lane in self._scenario.lanes}
        self._lanes.weigh({lane.name: lane.weight for lane in scheduler._urgent_first})
        started = self._engine.feed.take(free)
        if self._scenario.limit is None:
            # What has stepped aside is not runnable, and the scheduler does not tell which has.
            self._lanes.took(waiting, [delivery.task.lane for delivery in started])
        return started

    def _attempt(self, started: Sequence[Delivery]) -> None:
        """One attempt, or one at each task of a batch; then what the executor does with what ended."""
        number = self._next
        self._next += 1
        self.running[number] = Running(started[0], self._world.now_ms(), tuple(started[1:]))
        outcomes = [self._run(delivery) for delivery in started]
        now_ms, feed = self._world.now_ms(), self._engine.feed
        at_home = list(zip(started, outcomes, strict=True))
        if feed.aside:
            at_home, away = feed.aside.sort_out(at_home)
            for delivery, _ in away:
                feed.ended_away(delivery)
        self._engine.settler.post(*[settled for _, settled in at_home])
        del self.running[number]
        if feed.gathers and started[0].task.type == BATCHED:
            feed.batch_done(tuple(started), now_ms, [record for record, _ in at_home])
        else:
            for record, _ in at_home:
                feed.done(record, now_ms)
        self._busy -= 1
        self._bell.set()

    def _run(self, delivery: Delivery) -> Outcome:
        world, task = self._world, delivery.task
        started_ms = world.now_ms()
        self._accounts.starts(self._lanes, task.not_before_ms, started_ms, str(task.origin))
        cancel = cancel_of(self._control.cancels, task)
        if cancel is not None:
            return Cancelled(delivery, 0, started_ms, cancel.why)
        if task.expires_ms and started_ms >= task.expires_ms:
            return Expired(delivery, started_ms)
        if task.type not in self._handlers:
            missing = NoHandler(task.type, tuple(self._handlers))
            return unfit(delivery, "no_handler", missing, patience_s=20.0, started_ms=started_ms, now_ms=started_ms)
        plan = msgspec.json.decode(task.payload, type=Plan)
        is_cut = self._cut.wait(plan.ms / 1000)
        if plan.kind == "poison" and not is_cut:
            self._killed_by(str(task.origin))
            world.kill(self.process)
            raise ProcessKilled
        now_ms = world.now_ms()
        if is_cut:
            return HandedBack(delivery, now_ms)
        error: Exception | None = ConnectionError("flaky") if task.attempt <= plan.fails else None
        if plan.kind == "reject":
            error = Reject("no")
        if error is None:
            return Completed(delivery, started_ms, now_ms, HUGE if plan.huge else b"null")
        return failed(
            delivery, self._scenario.retry, error, started_ms=started_ms, now_ms=now_ms, unit=world.rng.random()
        )

    def leave(self, grace_s: float) -> None:
        """End in good order: SIGTERM."""
        self.leaving = True
        self._world.spawn(lambda: self._leave(grace_s), self.process)

    def _leave(self, grace_s: float) -> None:
        homed_at = self._world.now + HOMING_S
        while self._engine.feed.aside.awaits and self._world.now < homed_at:
            self._world.sleep(0.01)
        self._engine.reader.drain()
        ends_at = self._world.now + grace_s
        while self._busy and self._world.now < ends_at:
            self._world.sleep(0.05)
        self._cut.set()
        while self._busy:
            self._world.sleep(0.05)
        self._engine.stop(SETTLE_S)
        self._world.kill(self.process)
