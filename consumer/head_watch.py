"""Watches the heads of the partitions: says which tasks hold them back, and moves those aside whose policy is that.

Invariant: everything here happens on the executor's loop, once a second; attempts pay nothing for it. What is moved is
moved by the settler, in one transaction: a running attempt goes on while a copy of its record, in the smallest tier,
stands for it (`aside`); a task that waits is taken out and written again, at no attempt's cost. In an outage, and of
suspects, nothing is moved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec.structs import replace

from fairlane.consumer.aside import Place
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.engine import Engine
from fairlane.consumer.executor import Executor
from fairlane.consumer.handlers import Handlers
from fairlane.consumer.head_of_line import Head, HeadsOfLine, Verdict
from fairlane.consumer.outcome import Deferred
from fairlane.topics.clock import now_ms
from fairlane.topics.held_back import HeadState, HeldBack, sentence

_logger = logging.getLogger("fairlane.heads")

PERIOD_S: Final = 1.0
MOVED_MAX_BYTES: Final = 512 << 10
"""A record that is larger stays where it is: a tier may refuse it, and its attempt goes on."""
HOMING_S: Final = 2.0


class _Found(NamedTuple):
    """A task that holds its partition back, and what its attempt was started from if it runs."""

    state: HeadState
    delivery: Delivery
    since_ms: int | None = None
    started: Delivery | None = None


class HeadWatch:
    """Watches the partitions of one worker.

    Args:
        config: of the worker.
        handlers: for their policies.
        engine: its reader, feed and settler.
        executor: knows what runs.
        on_crash: told of an error that is a bug; the worker must end.
    """

    def __init__(
        self,
        config: WorkerConfig,
        handlers: Handlers,
        engine: Engine,
        executor: Executor,
        *,
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._policy = config.head_of_line
        self._policies = {name: handler.head_of_line for name, handler in handlers.items() if handler.head_of_line}
        self._tier = config.names.tier(config.tiers[0])
        self._engine = engine
        self._executor = executor
        self._on_crash = on_crash
        self._heads: HeadsOfLine[Assigned] = HeadsOfLine(round(config.head_of_line_s * 1000))
        self._moving: set[Place] = set()
        """What was moved and is not settled yet."""
        self.shown: tuple[HeldBack, ...] = ()
        """What holds partitions back now and stays where it is; any thread."""

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                with self._executor.driving:
                    self.look(now_ms())
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
            self._on_crash(error)

    async def homing(self) -> None:
        """Wait a little for copies that are on their way: a reader that drains would not read them any more."""
        for _ in range(round(HOMING_S / 0.01)):
            if not self._engine.feed.aside.awaits:
                return
            await asyncio.sleep(0.01)

    def look(self, moment_ms: int) -> None:
        """Say what holds back, and move what may be moved."""
        held = self._engine.settler.heads
        self._moving = {
            (assigned, offset)
            for assigned, offset in self._moving
            if assigned in held and offset in held[assigned].offsets
        }
        heads = self._heads.look(held, moment_ms)
        found: dict[Place, _Found] = {}
        if heads:
            found = self._find({(head.partition, offset) for head in heads for offset in head.offsets} - self._moving)
        shown = [self._deal_with(head, found, moment_ms) for head in heads]
        self.shown = tuple(each for each in shown if each is not None)

    def _find(self, wanted: set[Place]) -> dict[Place, _Found]:
        found: dict[Place, _Found] = {}
        for running in self._executor.running.values():
            for started in (running.delivery, *running.others):
                record = self._engine.feed.aside.home(started)
                if record is not None and (record.assigned, record.offset) in wanted:
                    found[(record.assigned, record.offset)] = _Found("running", record, running.since_ms, started)
        waits = wanted - found.keys()
        if waits:
            found |= {place: _Found(*each) for place, each in self._engine.feed.places.find(waits).items()}
        return found

    def _deal_with(self, head: Head[Assigned], found: dict[Place, _Found], moment_ms: int) -> HeldBack | None:
        """Move what may be moved, and speak of it; returns the head if it stays."""
        first = (head.partition, head.offsets[0])
        told = _told(head, found.get(first))
        if head.verdict is Verdict.HOLDING_BACK:
            target = self._target(head.partition)
            places = [(head.partition, offset) for offset in head.offsets]
            movable = {
                place: found[place] for place in places if place in found and self._may_move(found[place], target)
            }
            if movable:
                self._move(movable, target, moment_ms)
                self._tell_moved(_told(head, next(iter(movable.values()))), len(movable), target, moment_ms)
        if first in self._moving:
            return None
        if head.tell:
            _logger.warning("%s", sentence(told, moment_ms), extra={"task_id": told.id, "task_type": told.type})
        return told

    def _may_move(self, found: _Found, target: Assigned | None) -> bool:
        delivery = found.delivery
        return (
            self._policies.get(delivery.task.type, self._policy) == "move"
            and found.state != "suspect"
            and (found.started is None or target is not None)
            and delivery.size_bytes <= MOVED_MAX_BYTES
            and self._engine.feed.may_move(delivery.assigned, delivery.offset)
        )

    def _target(self, partition: Assigned) -> Assigned | None:
        """A partition of the smallest tier that is ours, of the same number if there is one."""
        ours = [each for each in self._engine.reader.held if each.topic == self._tier]
        same = [each for each in ours if each.partition == partition.partition]
        return next(iter([*same, *ours]), None)

    def _move(self, movable: dict[Place, _Found], target: Assigned | None, moment_ms: int) -> None:
        self._moving |= movable.keys()
        for each in movable.values():
            if each.started is not None and target is not None:
                self._executor.move_aside(each.started, target, moment_ms)
        waiting = {place for place, each in movable.items() if each.started is None}
        if waiting:
            gone = self._engine.feed.withdraw(waiting, moment_ms)
            self._engine.settler.post(*[Deferred(delivery, moment_ms) for delivery in gone])

    def _tell_moved(self, told: HeldBack, count: int, target: Assigned | None, moment_ms: int) -> None:
        runs = told.state == "running" and target is not None
        _logger.warning(
            "%s; moved aside%s, %s",
            sentence(told, moment_ms),
            f" with {count - 1} behind it" if count > 1 else "",
            f"it goes on as a record of {target.topic}[{target.partition}]"
            if runs and target
            else "to the end of its line",
            extra={"task_id": told.id, "task_type": told.type},
        )


def _told(head: Head[Assigned], found: _Found | None) -> HeldBack:
    told = HeldBack(
        partition=f"{head.partition.topic}/{head.partition.partition}",
        offset=head.offsets[0],
        since_ms=head.since_ms,
        finished=head.finished,
        unfinished=head.unfinished,
        outage=head.verdict is Verdict.OUTAGE,
    )
    if found is None:
        return told
    since_ms = head.since_ms if found.since_ms is None else found.since_ms
    task, offset = found.delivery.task, found.delivery.offset
    return replace(told, offset=offset, id=task.id, type=task.type, state=found.state, since_ms=since_ms)
