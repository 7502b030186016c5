"""From records to deliveries: what a batch of one partition means, in order.

Invariant: the settler hears of an offset before anybody can have an outcome for it, and every record that is read is
delivered, finished before, settled at once as malformed or as not due, or held: one that may not be taken yet, and all
behind it. The end of a partition is told only when nothing before it is held, or to be read again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from confluent_kafka import Message

from fairlane.consumer import to_settler
from fairlane.consumer.config import TIERS_ACCOUNT, WorkerConfig
from fairlane.consumer.delivery import Assigned, Delivery, Partition, Unreadable
from fairlane.consumer.event_intake import EventIntake
from fairlane.consumer.flow import Flow, fits_map, has_room_again
from fairlane.consumer.held import Held
from fairlane.consumer.ledger import Progress
from fairlane.consumer.outcome import Deferred, Malformed, Outcome
from fairlane.consumer.positions import Position
from fairlane.consumer.settler import Settler
from fairlane.consumer.tiers import LOOKAHEAD_MS, Hop, Wait, hold_limit_ms, nap_ms, read_decision
from fairlane.topics import routing, wire
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.headers import Headers
from fairlane.topics.names import Lane, Tier
from fairlane.topics.record_headers import headers_of
from fairlane.topics.task import Task

_logger = logging.getLogger("fairlane.reader")

HELD_SHARE: Final = 4
"""A quarter of the bytes that may be read ahead may be held besides, of what may not be taken yet."""
HEADERS_BYTES: Final = 300
"""What a record's headers and our own objects are counted as."""


class _Reading:
    """How far one assignment is read; owned by the reader's thread."""

    __slots__ = ("account", "delivered", "end", "lane", "nap_ms", "next_offset", "overfull", "position", "tier")

    def __init__(self, position: Position, lane: Lane | None, tier: Tier | None, nap_ms: int) -> None:
        self.position = position
        self.lane = lane
        self.tier = tier
        self.nap_ms = nap_ms
        self.account = lane.topic if lane is not None else TIERS_ACCOUNT
        self.delivered = 0
        """Those that the map restored as unfinished count when they are read again, or they would count twice."""
        self.next_offset = position.start
        self.end: int | None = None
        self.overfull = False


class Open(NamedTuple):
    """What is open of a partition: records that are read and not settled, and how far they reach beyond the
    watermark, in offsets.
    """

    records: int
    span: int


class Intake:
    """Turns records into deliveries; owned by the reader's thread.

    Args:
        config: of the worker.
        flow: is told what was handed on, and what must wait.
        settler: is told what was read.
    """

    def __init__(self, config: WorkerConfig, flow: Flow, settler: Settler) -> None:
        self._config = config
        self._flow = flow
        self._settler = settler
        self._lanes = {lane.topic: lane for lane in config.lanes}
        self._tiers = config.tier_of()
        self._hold_ms = hold_limit_ms(config.tiers)
        self.events = EventIntake()
        """Partitions whose records are no tasks."""
        self._readings: dict[Assigned, _Reading] = {}
        self._behind: set[Assigned] = set()
        self._held = Held(config.buffer_bytes // HELD_SHARE)
        self.tombstones = 0
        self.malformed: Counter[str] = Counter()
        """Records that were no task, by topic."""
        self.deferred: Counter[str] = Counter()
        """Those that were not due and moved on to a tier, by topic."""

    @property
    def partitions(self) -> list[Partition]:
        """What is being read."""
        return [*(assigned.key for assigned in self._readings), *self.events.positions()]

    def opened(self, assigned: Assigned, position: Position) -> bool:
        """A partition came; returns whether it starts paused."""
        if assigned.topic == self.events.topic:
            return self.events.opened(assigned, position)
        lane, tier = self._lanes.get(assigned.topic), self._tiers.get(assigned.topic)
        reading = _Reading(position, lane, tier, nap_ms(tier, self._config.tiers) if tier is not None else 0)
        self._readings[assigned] = reading
        if lane is not None and position.start < position.end:
            self._behind.add(assigned)
        self._settler.post(to_settler.Opened(assigned, *position))
        return self._flow.assigned(assigned.key, reading.account)

    def positions(self) -> dict[Partition, Position]:
        """Where reading of each partition began."""
        found = {assigned.key: reading.position for assigned, reading in self._readings.items()}
        return found | self.events.positions()

    def gone(self, assigned: Sequence[Assigned]) -> None:
        """Partitions left."""
        self.events.gone(assigned)
        for each in assigned:
            if self._readings.pop(each, None) is not None:
                self._flow.gone(each.key)
            self._behind.discard(each)
            self._held.gone(each)

    @property
    def caught_up(self) -> bool:
        """Whether every lane was read to the end that it had, or as far ahead as it may be: then work can begin.

        Until then a fresh worker would start p1 before it has seen that there is a p5.
        """
        return bool(self._readings) and all(
            self._flow.full(assigned.topic) or self._flow.is_held(assigned.topic) for assigned in self._behind
        )

    def reached_end(self, assigned: Assigned | None, end: int, now_ms: int) -> None:
        """A partition was read to its end."""
        self.events.reached_end(assigned, end)
        if assigned in self._readings:
            reading = self._readings[assigned]
            self._behind.discard(assigned)
            self._flow.reached_end(assigned.key)
            if assigned in self._held:
                reading.end = end
            elif not self._held.is_dropped(assigned):
                self._settler.post(to_settler.ReachedEnd(assigned, end))
                if reading.nap_ms:
                    # All at once are looked at again: one fetch, not one for each.
                    self._flow.wait(assigned.key, now_ms + reading.nap_ms - now_ms % reading.nap_ms)

    def holding(self) -> list[Assigned]:
        """Assignments of which records are held and may be taken now."""
        return [assigned for assigned in self._readings if assigned in self._held and self._flow.may_take(assigned.key)]

    def open(self) -> dict[Partition, Open]:
        """What is open of each partition; any thread."""
        found = {}
        progress = self._settler.progress
        for assigned, reading in self._readings.copy().items():
            settled = progress.get(assigned) or Progress(reading.position.start, 0)
            # Both totals were read at different times: what is settled may be ahead of what was read.
            found[assigned.key] = Open(
                max(0, reading.delivered - settled.finished), max(0, reading.next_offset - settled.watermark)
            )
        return found

    @property
    def held_bytes(self) -> int:
        """The size of what was read and may not be taken yet; any thread."""
        return self._held.size_bytes

    def read_again(self) -> list[tuple[Partition, int]]:
        """Partitions of which too much would be held, and from where each is to be read again when it is resumed."""
        return [(assigned.key, offset) for assigned, offset in self._held.read_again()]

    def _hold(self, assigned: Assigned, messages: Sequence[Message]) -> bool:
        size_bytes = sum(len(message.value() or b"") + HEADERS_BYTES for message in messages)
        is_kept = self._held.keep(assigned, messages, size_bytes)
        if not is_kept:
            self._readings[assigned].end = None
        return is_kept

    def relieved(self, progress: Mapping[Assigned, Progress]) -> list[Partition]:
        """Partitions that were paused for their offset map and have room in it again."""
        free = []
        for assigned, reading in self._readings.items():
            if reading.overfull and assigned in progress:
                settled = progress[assigned]
                outstanding = reading.delivered - settled.finished
                if has_room_again(outstanding, reading.next_offset - settled.watermark):
                    reading.overfull = False
                    free.append(assigned.key)
        return free

    def take(self, assigned: Assigned, batch: Sequence[Message], now_ms: int) -> list[Delivery]:
        """Take what is held of a partition and then a batch, in order, as far as they may be taken now.

        Returns:
            Tasks that are due, or will be while they wait in memory.
        """
        reading = self._readings[assigned]
        if self._held.is_dropped(assigned):
            return []
        held = self._held.take(assigned)
        waiting = [*held, *batch] if held else batch
        restored = reading.position.restored
        settled = self._settler.progress.get(assigned) or Progress(reading.position.start, 0)
        outstanding = reading.delivered - settled.finished
        deliveries: list[Delivery] = []
        offsets: list[int] = []
        at_once: list[Outcome] = []
        waits_from: int | None = None
        size_bytes = 0
        for place, message in enumerate(waiting):
            offset = message.offset() or 0
            value = message.value()
            if restored is not None and restored.finished(offset):
                continue
            if value is None:
                self.tombstones += 1
                continue
            if not fits_map(outstanding + len(offsets) + 1, offset - settled.watermark):
                self._flow.overfull(assigned.key)
                reading.overfull = True
                self._hold(assigned, waiting[place:])
                waits_from = offset
                break
            told = self._understand(assigned, reading, message, value, offset, now_ms)
            if isinstance(told, Delivery):
                offsets.append(offset)
                size_bytes += told.size_bytes
                deliveries.append(told)
            elif isinstance(told, Wait):
                is_kept = self._hold(assigned, waiting[place:])
                self._flow.wait(assigned.key, told.until_ms if is_kept else told.until_ms + _patience_ms(reading.tier))
                waits_from = offset
                break
            else:
                offsets.append(offset)
                (self.malformed if isinstance(told, Malformed) else self.deferred)[assigned.topic] += 1
                at_once.append(told)
        if offsets:
            reading.delivered += len(offsets)
            self._settler.post(to_settler.Delivered(assigned, offsets), *at_once)
            self._flow.handed(reading.account, len(offsets) - len(at_once), size_bytes)
        if waits_from is not None:
            reading.next_offset = waits_from
        elif waiting:
            reading.next_offset = (waiting[-1].offset() or 0) + 1
        if reading.end is not None and waits_from is None:
            self._settler.post(to_settler.ReachedEnd(assigned, reading.end))
            reading.end = None
        return deliveries

    def _understand(
        self, assigned: Assigned, reading: _Reading, message: Message, value: bytes, offset: int, now_ms: int
    ) -> Delivery | Outcome | Wait:
        key = message.key()
        headers: Headers | None = None
        appended_ms = message.timestamp()[1]
        lane = reading.lane
        try:
            headers = headers_of(message)
            task = wire.decode(
                assigned.topic,
                assigned.partition,
                offset,
                appended_ms,
                key,
                value,
                headers,
                lane=lane.topic if lane is not None else None,
                priority=lane.level if lane is not None else 0,
                default_type=lane.default_type if lane is not None else None,
            )
        except MalformedRecord as error:
            return Malformed(Unreadable(assigned, offset, key, value, tuple(headers or ())), str(error), now_ms)
        if lane is None:
            task = self._homed(task)
        restored = reading.position.restored
        losses = restored.losses.get(offset, 0) if restored is not None else 0
        size_bytes = HEADERS_BYTES + len(value) + (len(key) if key is not None else 0)
        if task.headers:
            # Not by our own producers, whose headers HEADERS_BYTES stands for.
            size_bytes += sum([len(value) for _, value in task.headers if value])
        delivery = Delivery(task, assigned, offset, reading.account, size_bytes, losses)
        if task.not_before_ms <= now_ms:
            return delivery
        if reading.tier is None:
            waits_here = self._hold_ms is None or task.not_before_ms - now_ms < self._hold_ms
            return delivery if waits_here else Deferred(delivery, now_ms)
        decision = read_decision(reading.tier, appended_ms, task.not_before_ms, now_ms, self._config.tiers)
        if isinstance(decision, Wait):
            return decision
        return Deferred(delivery, now_ms) if isinstance(decision, Hop) else delivery

    def _homed(self, task: Task) -> Task:
        """A task from a tier runs at the priority of its own lane; if that is no lane of ours, at the nearest one."""
        if task.lane in self._lanes:
            return task
        lane = routing.lane_for(task.priority, self._config.lanes)
        return msgspec.structs.replace(task, lane=lane.topic, priority=lane.level)


def _patience_ms(tier: Tier | None) -> int:
    """How much longer a partition waits that has to be read again: half of the time that its records are early by.

    So what is due at almost the same time is read together, and is not late for that.
    """
    return min(LOOKAHEAD_MS, tier.delay_ms // 2) // 2 if tier is not None else 0
