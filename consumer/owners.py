"""The owners of the partitions of `<queue>.events` that this process holds: one thread that carries what they decide.

Invariant: one thread feeds all of them. An owner begins with an assignment and ends with it; it is restored from its
changelog after its committed offset is known, which waits for what its predecessor had sent (`positions.py`). What it
stages goes to the settler, and nothing more is fed to it before that is in Kafka. Whatever ends the assignment drops
the owner with all that it knows.

A worker whose partitions have no entities waits here without a timeout, and reads nothing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from confluent_kafka import Message

from fairlane.consumer.announcing import Announcing
from fairlane.consumer.changelog import Changelog
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.delivery import Assigned
from fairlane.consumer.owner import Event, Owner, Turn
from fairlane.consumer.schedule_machine import Deployment, Schedules
from fairlane.consumer.settle_records import Record
from fairlane.consumer.to_settler import OwnerTurn
from fairlane.topics import routing, wire
from fairlane.topics.clock import now_ms
from fairlane.topics.task import Task

_logger = logging.getLogger("fairlane.owners")

LOOK_S: Final = 5.0
"""Clocks may be set: who waits for a moment looks again after so long."""
ANNOUNCE_S: Final = 0.1


class Opened(NamedTuple):
    """A partition came; its events begin at `offset`."""

    assigned: Assigned
    offset: int


class Gone(NamedTuple):
    """Partitions left."""

    assigned: tuple[Assigned, ...]


class Came(NamedTuple):
    """Events were read."""

    assigned: Assigned
    events: tuple[Event, ...]


class ReachedEnd(NamedTuple):
    """There are no more events before this offset."""

    assigned: Assigned
    end: int


class Settled(NamedTuple):
    """A turn is in Kafka."""

    assigned: Assigned
    number: int


Told = Opened | Gone | Came | ReachedEnd | Settled


class Owners:
    """Owns the thread.

    Args:
        config: of the worker.
        deployment: what its app defines.
        post: gives a turn to the settler.
        on_crash: told of an error that is a bug; the worker must end.
    """

    def __init__(
        self,
        config: WorkerConfig,
        deployment: Deployment,
        post: Callable[[OwnerTurn], object],
        *,
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._config = config
        self._deployment = deployment
        self._post = post
        self._on_crash = on_crash
        self._inbox: deque[Told] = deque()
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._owners: dict[Assigned, Owner] = {}
        self._changelog = Changelog(config)
        self._announcing = Announcing(config, deployment.schedules)
        self._unknown: set[str] = set()
        self.fed: dict[Assigned, int] = {}
        """Events that each owner has fed since it began; written by this thread only."""
        self._thread = threading.Thread(target=self._run, name="fairlane-owners", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread."""
        self._stopping.set()
        self._bell.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def tell(self, *told: Told) -> None:
        """Something happened; any thread, never blocks."""
        self._inbox.extend(told)
        if not self._bell.is_set():
            self._bell.set()

    def came(self, assigned: Assigned, batch: Sequence[Message]) -> None:
        """Events were read; tombstones say nothing."""
        events = (Event(each.offset() or 0, each.key() or b"", each.value() or b"") for each in batch)
        self.tell(Came(assigned, tuple(events)))

    def settled(self, turns: Sequence[OwnerTurn]) -> None:
        """These are in Kafka; called on the settler's thread."""
        for note in (note for turn in turns for note in turn.notes):
            _logger.warning("%s", note)
        self.tell(*(Settled(turn.assigned, turn.number) for turn in turns))

    @property
    def entities(self) -> int:
        """What is open in all of them; any thread."""
        return sum(owner.entities for owner in self._owners.copy().values())

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._bell.clear()
                while self._inbox:
                    self._note(self._inbox.popleft())
                if self._changelog.busy:
                    self._restore()
                if not self._announcing.done:
                    self._announcing.step()
                self._stage()
                if not self._changelog.busy:
                    self._bell.wait(self._patience_s())
        except BaseException as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
            self._on_crash(error)
        finally:
            self._changelog.close()

    def _note(self, told: Told) -> None:
        if isinstance(told, Opened):
            machines = [Schedules(self._config.lanes, self._deployment)]
            self._owners[told.assigned] = Owner(machines, told.offset)
            self.fed[told.assigned] = 0
            self._changelog.begin(told.assigned.partition)
            return
        if isinstance(told, Gone):
            for assigned in told.assigned:
                if self._owners.pop(assigned, None) is not None:
                    del self.fed[assigned]
                    self._changelog.forget(assigned.partition)
            return
        owner = self._owners.get(told.assigned)
        if owner is None:
            return
        match told:
            case Came(_, events):
                for event in events:
                    owner.came(event)
            case ReachedEnd(_, end):
                owner.reached_end(end)
            case Settled(_, number):
                owner.settled(number)

    def _restore(self) -> None:
        step = self._changelog.step()
        by_partition = {assigned.partition: owner for assigned, owner in self._owners.items()}
        for partition, key, value in step.records:
            if partition in by_partition:
                by_partition[partition].restore(key, value)
        for partition in step.through:
            if partition in by_partition:
                owner = by_partition[partition]
                owner.begin()
                if owner.entities:
                    _logger.info("own %d schedules of partition %d", owner.entities, partition)

    def _stage(self) -> None:
        moment_ms = now_ms()
        for assigned, owner in self._owners.items():
            before = owner.waiting
            turn = owner.stage(moment_ms)
            self.fed[assigned] += before - owner.waiting
            if turn is not None:
                self._post(self._of(assigned, turn, moment_ms))
            if owner.unknown - self._unknown:
                self._unknown |= owner.unknown
                _logger.warning("events of %s are left alone: only a newer fairlane knows them", sorted(owner.unknown))

    def _of(self, assigned: Assigned, turn: Turn, moment_ms: int) -> OwnerTurn:
        state = self._config.names.state
        records = [Record(state, key, value, (), assigned.partition) for key, value in turn.states]
        records += [self._record(task, moment_ms) for task in turn.tasks]
        return OwnerTurn(assigned, turn.number, turn.offset, tuple(records), turn.notes)

    def _record(self, task: Task, moment_ms: int) -> Record:
        names, tiers = self._config.names, self._config.tiers
        topic = routing.topic_for(task, names, tiers, moment_ms)
        if topic == task.lane and topic != names.lane(task.priority):
            # Somebody else's topic is only read: the shortest tier runs what is due at once.
            topic = names.tier(tiers[0])
        return Record(topic, task.key, task.payload, wire.encode(task))

    def _patience_s(self) -> float | None:
        due_ms = min((due for each in self._owners.values() if (due := each.next_due_ms) is not None), default=None)
        patience_s = None if due_ms is None else min(LOOK_S, max(0.0, (due_ms - now_ms()) / 1000))
        if self._announcing.done:
            return patience_s
        return ANNOUNCE_S if patience_s is None else min(ANNOUNCE_S, patience_s)
