"""The feed: what is ready to run, in the order in which it should.

Invariant: owned by one driver (whoever holds the lock of the executor, or of a Queue); the reader and the settler hand
it messages. A task is in exactly one place: waiting for its time, waiting as a suspect, waiting its turn, gathered with
others of its type, or running.
Nothing of a revoked assignment is started.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain

from fairlane.consumer.adaptive_types import AdaptiveTypes
from fairlane.consumer.aside import Aside, Place
from fairlane.consumer.beginning import Beginning
from fairlane.consumer.config import TIERS_ACCOUNT, WorkerConfig
from fairlane.consumer.delays import DelayHeap
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.gathering import Batch, Gathering
from fairlane.consumer.handlers import Handlers
from fairlane.consumer.orders import Orders
from fairlane.consumer.outcome import Outcome
from fairlane.consumer.places import Places
from fairlane.consumer.scheduler import Scheduler
from fairlane.consumer.settler import Settler
from fairlane.consumer.suspects import Command, Record, Run, SuspectGate
from fairlane.consumer.suspects import Dead as Buried
from fairlane.consumer.to_feed import CaughtUp, Obey, Recorded, Revoke, TakenOver
from fairlane.consumer.to_settler import RecordLosses
from fairlane.consumer.unstarted import Unstarted
from fairlane.topics.offset_map import OffsetMap


class Feed:
    """What is ready to run.

    Args:
        config: of the worker.
        handlers: for the concurrency limits of their types.
        settler: is told the losses of suspects, and of those that are dead without a start.
        wake: called from any thread when there is something new.
    """

    def __init__(self, config: WorkerConfig, handlers: Handlers, settler: Settler, wake: Callable[[], None]) -> None:
        self._settler = settler
        self._wake = wake
        self._inbox: deque[Sequence[Delivery] | TakenOver | Revoke | Recorded | CaughtUp | Obey] = deque()
        self._adaptive = AdaptiveTypes.of(handlers, config)
        self.adapts = self._adaptive is not None
        """Whether `adapt` has something to do."""
        self._batches = Gathering.of(handlers)
        limits = {
            kind: each.concurrency * (each.batch.max_size if each.batch is not None else 1)
            for kind, each in handlers.items()
            if isinstance(each.concurrency, int)
        }
        self._scheduler: Scheduler[Delivery] = Scheduler(
            {lane.topic: (lane.level, lane.weight) for lane in config.lanes}, limits | self.limits
        )
        self._delays: DelayHeap[Delivery] = DelayHeap()
        # The gate counts the losses on record, and the first death of all is on nobody's record.
        self._gate: SuspectGate[Assigned, Delivery] = SuspectGate(config.worker_lost_max - 1)
        self._suspects: dict[Place, Delivery] = {}
        room = config.delayed_max, config.buffer_bytes
        self.places = Places(self._scheduler, self._batches, self._delays, self._suspects, room, self._count)
        self.unstarted = Unstarted(config, settler)
        self._running: dict[Assigned, int] = {}
        self.aside = Aside()
        self._revoked: list[Revoke] = []
        self._beginning = Beginning(round(config.start_wait_s * 1000))
        self._begin_sent = False
        self._taken: dict[str, int] = dict.fromkeys([*(lane.topic for lane in config.lanes), TIERS_ACCOUNT], 0)
        self.taken: Mapping[str, int] = self._taken
        self.taken_bytes = 0

    # What the reader calls, on its thread.

    def take_over(self, assigned: Assigned, restored: OffsetMap | None, end: int) -> None:
        """A partition came; said before its first record."""
        self._inbox.append(TakenOver(assigned, restored, end))
        self._wake()

    def post(self, deliveries: Sequence[Delivery]) -> None:
        """Records were read."""
        self._inbox.append(deliveries)
        self._wake()

    def revoke(self, assigned: Iterable[Assigned], grace_s: float) -> bool:
        """Start nothing more of these, and wait until nothing of theirs runs; whether that was so in time."""
        message = Revoke(frozenset(assigned), threading.Event())
        if not message.assigned:
            return True
        self._inbox.append(message)
        self._wake()
        return message.quiet.wait(grace_s) if grace_s > 0 else False

    def begin_when(self, caught_up: bool) -> None:
        """The first task may start: every lane was read to its end, or as far ahead as it may be."""
        if caught_up and not self._begin_sent:
            self._begin_sent = True
            self._inbox.append(CaughtUp())
            self._wake()

    def obey(self, orders: Orders, weights: Mapping[str, int]) -> None:
        """Operators ask for this from now on; `weights` are those of all lanes."""
        self._inbox.append(Obey(orders, weights))
        self._wake()

    # What the driver calls, on its own thread.

    def begin(self) -> None:
        """Start whatever is there, and wait for no lane any more."""
        self._beginning.begun = True

    def refresh(self, now_ms: int) -> None:
        """Work through what the others said, and let go what is due."""
        while self._inbox:
            message = self._inbox.popleft()
            match message:
                case TakenOver():
                    commands = self._gate.taken_over(*message)
                    self._beginning.came((each.partition for each in commands if isinstance(each, Record)), now_ms)
                    self._follow(commands, now_ms)
                case Recorded():
                    self._beginning.announced((message.assigned,))
                    self._follow(self._gate.committed(*message), now_ms)
                case Revoke():
                    self._discard(message, now_ms)
                case Obey():
                    self.places.obey(*message)
                case CaughtUp():
                    self._beginning.caught_up()
                case _:
                    self._admit(message, now_ms)
        if not self._beginning.begun:
            self._beginning.look(now_ms)
        for delivery in self._delays.due(now_ms):
            self._offer(delivery)
        if self._batches is not None:
            self._batches.look(now_ms)
        self._end_unstarted(now_ms)

    def take(self, limit: int) -> list[Delivery]:
        """The next tasks to start, at most `limit`; each must be given to `done` when it is over."""
        if not self._beginning.begun or limit <= 0:
            return []
        started = self._scheduler.take(limit)
        running, taken = self._running, self._taken
        for delivery in started:
            assigned = delivery.assigned
            running[assigned] = running.get(assigned, 0) + 1
            taken[delivery.account] += 1
            self.taken_bytes += delivery.size_bytes
        if self._adaptive is not None:
            self._adaptive.began(started)
        return started

    @property
    def gathers(self) -> bool:
        """Whether some types run in batches."""
        return self._batches is not None

    def gather(self, limit: int, now_ms: int) -> tuple[list[Delivery], list[Batch]]:
        """In place of `take` where some types run in batches: the next tasks to start by themselves, and the next
        batches; at most `limit` of both together.

        Each task must be given to `done` when it is over, each batch to `batch_done`. What the scheduler hands out is
        gathered, so lanes and types have their shares in tasks, however many of them run at once.
        """
        batches = self._batches
        if batches is None or not self._beginning.begun or limit <= 0:
            return self.take(limit), []
        alone: list[Delivery] = []
        # They had their turn, and only a place to run was missing: nobody is to overtake them again and again.
        ready = batches.pop(limit, now_ms)
        while (room := limit - len(alone) - len(ready)) > 0 and (taken := self._scheduler.take(room)):
            for delivery in taken:
                self._count(delivery)
                if not batches.take_in(delivery, now_ms, is_suspect=self._is_suspect(delivery)):
                    alone.append(delivery)
            ready += batches.pop(limit - len(alone) - len(ready), now_ms, only_full=True)
        ready += batches.pop(limit - len(alone) - len(ready), now_ms)
        for delivery in chain(alone, *ready):
            self._running[delivery.assigned] = self._running.get(delivery.assigned, 0) + 1
        if self._adaptive is not None:
            self._adaptive.began(alone)
        return alone, ready

    def _is_suspect(self, delivery: Delivery) -> bool:
        if delivery.losses or delivery.task.worker_lost:
            return True
        return self._gate.is_suspect(delivery.assigned, delivery.offset)

    def batch_done(self, batch: Batch, now_ms: int, records: Sequence[Delivery] | None = None) -> None:
        """A batch is over and the outcomes of its tasks are with the settler.

        Args:
            batch: as it was started.
            now_ms: Unix ms.
            records: those that its outcomes settle, where that is others: some were moved aside.
        """
        assert self._batches is not None
        self._batches.finished(batch[0].task.type)
        for delivery in batch if records is None else records:
            self.done(delivery, now_ms)

    def done(self, delivery: Delivery, now_ms: int, *, goes_on: bool = False) -> None:
        """The outcome of a record whose attempt ran is with the settler.

        Args:
            delivery: the record.
            now_ms: Unix ms.
            goes_on: whether the attempt goes on, since only its record was moved aside.
        """
        if not goes_on:
            self._scheduler.finished(delivery.task.type)
        assigned = delivery.assigned
        left = self._running[assigned] - 1
        if left:
            self._running[assigned] = left
        else:
            del self._running[assigned]
        commands = self._gate.finished(assigned, delivery.offset)
        if commands:
            self._follow(commands, now_ms)
            self._end_unstarted(now_ms)
        if self._revoked:
            self._tell_quiet()

    def adapt(self, ended: Iterable[tuple[Delivery, Outcome]], now_ms: int) -> None:
        """Let the limits of task types follow what attempts led to that are over."""
        if self._adaptive is not None:
            for task_type, limit in self._adaptive.ended(ended, now_ms):
                self._scheduler.set_limit(task_type, limit)

    @property
    def limits(self) -> dict[str, int]:
        """How many attempts may run at once now of each type whose concurrency adapts; any thread."""
        return self._adaptive.limits if self._adaptive is not None else {}

    def ended_away(self, delivery: Delivery) -> None:
        """An attempt is over that has no record to settle now, since that was moved aside."""
        self._scheduler.finished(delivery.task.type)

    def may_move(self, assigned: Assigned, offset: int) -> bool:
        """Whether a record may be settled by moving it: not a suspect, whose loss count belongs to its place, and not
        in a partition that is about to leave, whose next owner reads it again.
        """
        leaves = any(assigned in revoke.assigned for revoke in self._revoked)
        return not leaves and not self._gate.is_suspect(assigned, offset)

    def withdraw(self, wanted: Container[Place], now_ms: int) -> list[Delivery]:
        """Take out records that wait for their turn, for company or for their time; whoever does it settles them."""

        def goes(delivery: Delivery) -> bool:
            return (delivery.assigned, delivery.offset) in wanted

        in_line, gathered = self.places.take_out(goes)
        for delivery in in_line:
            self._count(delivery)
        for delivery in (gone := [*in_line, *gathered]):
            self._follow(self._gate.finished(delivery.assigned, delivery.offset), now_ms)
        return gone

    @property
    def next_due_ms(self) -> int | None:
        """When there is something to do without anybody's word: the next task that waits for its time is due, a batch
        has waited long enough for company, or a fresh worker for its lanes to be read.
        """
        due_ms = self._delays.next_due_ms
        if self._batches is not None and (batch_ms := self._batches.next_due_ms) is not None:
            due_ms = batch_ms if due_ms is None else min(due_ms, batch_ms)
        begins_ms = self._beginning.due_ms
        return due_ms if begins_ms is None else begins_ms if due_ms is None else min(due_ms, begins_ms)

    @property
    def waiting(self) -> int:
        """Tasks that could start now, or do so as soon as there are more of them or some time has passed."""
        return len(self._scheduler) + self.gathered

    @property
    def gathered(self) -> int:
        """Those of them that wait for company in a batch; any thread."""
        return len(self._batches) if self._batches is not None else 0

    @property
    def delayed(self) -> int:
        """Tasks that wait in memory for their time."""
        return len(self._delays)

    @property
    def running(self) -> int:
        """Attempts that are under way."""
        return sum(self._running.values())

    def _admit(self, deliveries: Iterable[Delivery], now_ms: int) -> None:
        gate, offer = self._gate, self.places.offer
        cleared: Assigned | None = None
        if self.aside.awaits:
            deliveries = [delivery for delivery in deliveries if not self._comes_home(delivery)]
        for delivery in deliveries:
            assigned, task = delivery.assigned, delivery.task
            if assigned is not cleared:
                offset = delivery.offset
                if gate.is_suspect(assigned, offset):
                    self._suspects[(assigned, offset)] = delivery
                    self._follow(gate.admit(assigned, offset, delivery, task.worker_lost), now_ms)
                    continue
                # Offsets ascend, and behind one that is no suspect there is none.
                cleared = assigned
            if task.not_before_ms > now_ms:
                self._delays.push(task.not_before_ms, delivery)
            else:
                offer(task.lane, task.type, delivery)

    def _comes_home(self, copy: Delivery) -> bool:
        """Whether a record that was read stands for an attempt of ours, which runs or has just ended."""
        found = self.aside.arrived(copy)
        if found is None:
            return False
        self._count(copy)
        if isinstance(found, Delivery):
            self._running[copy.assigned] = self._running.get(copy.assigned, 0) + 1
        else:
            self._settler.post(found)
        return True

    def _follow(self, commands: Sequence[Command[Assigned, Delivery]], now_ms: int) -> None:
        for command in commands:
            match command:
                case Record(assigned):
                    losses = dict(self._gate.losses(assigned))
                    known = OffsetMap(0, -1, (), losses, clean=False)
                    self._settler.post(RecordLosses(assigned, losses, partial(self._recorded, assigned, known)))
                case Run(_, items):
                    for delivery in items:
                        self._suspects.pop((delivery.assigned, delivery.offset), None)
                        self._run(delivery, now_ms)
                case Buried(assigned, delivery, losses):
                    self._suspects.pop((assigned, delivery.offset), None)
                    self._count(delivery)
                    self.unstarted.lost(delivery, losses, now_ms)
                    self._follow(self._gate.finished(assigned, delivery.offset), now_ms)

    def _end_unstarted(self, now_ms: int) -> None:
        """End what operators let not start; that may let others have their turn, which end so too."""
        while fated := self.places.fated():
            for delivery, fate in fated:
                self._count(delivery)
                self.unstarted.meets(delivery, fate, now_ms)
                self._follow(self._gate.finished(delivery.assigned, delivery.offset), now_ms)

    def _recorded(self, assigned: Assigned, known: OffsetMap) -> None:
        """Called on the settler's thread, when the losses are committed."""
        self._inbox.append(Recorded(assigned, known))
        self._wake()

    def _run(self, delivery: Delivery, now_ms: int) -> None:
        if delivery.task.not_before_ms > now_ms:
            self._delays.push(delivery.task.not_before_ms, delivery)
        else:
            self._offer(delivery)

    def _offer(self, delivery: Delivery) -> None:
        self.places.offer(delivery.task.lane, delivery.task.type, delivery)

    def _count(self, delivery: Delivery, times: int = 1) -> None:
        self._taken[delivery.account] += times
        self.taken_bytes += times * delivery.size_bytes

    def _discard(self, revoke: Revoke, now_ms: int) -> None:
        def goes(delivery: Delivery) -> bool:
            return delivery.assigned in revoke.assigned

        waiting = [delivery for delivery in self._suspects.values() if goes(delivery)]
        for delivery in waiting:
            del self._suspects[(delivery.assigned, delivery.offset)]
        in_line, _gathered = self.places.take_out(goes)
        for delivery in [*waiting, *in_line]:
            self._count(delivery)
        self._beginning.announced(revoke.assigned)
        self.aside.left(revoke.assigned)
        # In one order, and not in that of a set: which grave suspect has its turn next is decided here.
        for assigned in sorted(revoke.assigned, key=lambda each: each.epoch):
            self._follow(self._gate.released(assigned), now_ms)
        self._revoked.append(revoke)
        self._tell_quiet()

    def _tell_quiet(self) -> None:
        loud = []
        for revoke in self._revoked:
            if revoke.assigned.isdisjoint(self._running):
                revoke.quiet.set()
            else:
                loud.append(revoke)
        self._revoked = loud
