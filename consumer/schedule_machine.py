"""The schedules of one partition: definitions in, tasks out.

Invariant: no I/O and no clock. An instant is dealt with once: `last_ms` only grows, it is written in the turn that
makes the tasks, and no instant up to it is looked at again, whatever happens to the definition. The id of a task
follows from schedule and instant.

A definition that is older than the one that is known changes nothing, whoever sends it: so in a deployment the old
workers that start once more do not bring back what the new ones have changed. Schedules of the app that the app of a
newer deployment no longer defines, though it has the type of their tasks, are removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from msgspec.structs import replace

from fairlane.consumer.owner import Changes
from fairlane.topics.errors import UsageError
from fairlane.topics.names import Lane
from fairlane.topics.rfc3339 import format_ms
from fairlane.topics.routing import lane_for
from fairlane.topics.schedules import (
    ALL_MAX,
    KIND,
    LATE_MS,
    Schedule,
    ScheduleEvent,
    ScheduleState,
    decode_event,
    decode_state,
    encode,
)
from fairlane.topics.task import Task
from fairlane.topics.timetable import Timetable

SCHEDULES_MAX: Final = 10_000
"""So many are open in one partition at most."""
REMEMBERED_MS: Final = 7 * 86_400_000
"""For so long a schedule that was removed is remembered."""


class Deployment(NamedTuple):
    """What the app of a worker defines.

    Attributes:
        schedules: all of them.
        types: of tasks that it has handlers for.
        deployed_ms: of two deployments the later one counts, Unix ms.
    """

    schedules: tuple[Schedule, ...] = ()
    types: frozenset[str] = frozenset()
    deployed_ms: int = 0


class _Entry:
    __slots__ = ("next_ms", "state", "timetable")

    def __init__(self, state: ScheduleState, timetable: Timetable | None) -> None:
        self.state = state
        self.timetable = timetable
        self.next_ms: int | None = None

    def look(self) -> None:
        """When it is to be looked at next: at its next instant, or when it need not be remembered any more."""
        state = self.state
        if state.removed_ms:
            self.next_ms = state.last_ms + REMEMBERED_MS
        elif state.paused_ms or self.timetable is None:
            self.next_ms = None
        else:
            self.next_ms = self.timetable.after(state.last_ms)


class Schedules:
    """The machine of schedules.

    Args:
        lanes: of the queue.
        deployment: what the app of this worker defines.
    """

    kind = KIND

    def __init__(self, lanes: Sequence[Lane], deployment: Deployment = Deployment()) -> None:  # noqa: B008 - frozen
        self._lanes = tuple(lanes)
        self._deployment = deployment
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[int, str]] = []
        """By the time of the next look; what has another one by now is passed over."""
        self._swept = False

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next_due_ms(self) -> int | None:
        """See `Machine`."""
        if not self._swept:
            return 0 if self._entries else None
        while self._heap:
            due_ms, name = self._heap[0]
            entry = self._entries.get(name)
            if entry is not None and entry.next_ms == due_ms:
                return due_ms
            heappop(self._heap)
        return None

    def restore(self, entity: str, value: bytes | None) -> None:
        """See `Machine`."""
        state = decode_state(entity, value) if value is not None else None
        if state is None:
            self._entries.pop(entity, None)
        else:
            self._note(state)

    def _note(self, state: ScheduleState) -> None:
        name = state.schedule.name
        known = self._entries.get(name)
        if known is not None and known.state.schedule == state.schedule:
            entry = known
            entry.state = state
        else:
            try:
                entry = _Entry(state, state.schedule.timetable)
            except UsageError:
                # Of a newer fairlane, or of a time zone that this machine does not know: it stays as it is.
                entry = _Entry(state, None)
            self._entries[name] = entry
        entry.look()
        if entry.next_ms is not None:
            heappush(self._heap, (entry.next_ms, name))

    def _write(self, state: ScheduleState, changes: Changes) -> None:
        self._note(state)
        changes.states[state.schedule.name] = encode(state)

    def feed(self, entity: str, value: bytes, now_ms: int, changes: Changes) -> None:
        """See `Machine`."""
        event = decode_event(entity, value)
        entry = self._entries.get(entity)
        if event is None:
            changes.notes.append(f"what is asked of schedule {entity[:200]!r} cannot be read, and is not done")
        elif event.schedule is not None:
            self._define(event.schedule, event.at_ms, now_ms, changes)
        elif entry is None or entry.state.removed_ms:
            changes.notes.append(f"{event.action} of schedule {entity!r}, which there is not")
        else:
            if event.action != "resume":
                self._catch_up(entry, event.at_ms, now_ms, changes)
            self._act(event, entry.state, now_ms, changes)

    def _catch_up(self, entry: _Entry, at_ms: int, now_ms: int, changes: Changes) -> None:
        """Make tasks of what was due when something was asked, before it is done: nobody had taken it up by then."""
        until_ms = min(at_ms or now_ms, now_ms)
        if entry.next_ms is not None and entry.next_ms <= until_ms and not entry.state.removed_ms:
            self._fire(entry, until_ms, now_ms, changes)

    def _define(self, schedule: Schedule, at_ms: int, now_ms: int, changes: Changes) -> None:
        entry = self._entries.get(schedule.name)
        try:
            _ = schedule.timetable
        except UsageError as error:
            changes.notes.append(f"schedule {schedule.name!r} is not taken: {error}")
            return
        if entry is None:
            if len(self._entries) >= SCHEDULES_MAX:
                changes.notes.append(f"schedule {schedule.name!r} is not taken: there are {SCHEDULES_MAX:,} already")
                return
            self._write(ScheduleState(schedule=schedule, last_ms=now_ms), changes)
            return
        known = entry.state
        if schedule.defined_ms < max(known.schedule.defined_ms, known.removed_ms) or schedule == known.schedule:
            return
        self._catch_up(entry, at_ms, now_ms, changes)
        known = entry.state
        is_same_time = not known.removed_ms and _time_of(schedule) == _time_of(known.schedule)
        last_ms = known.last_ms if is_same_time else max(known.last_ms, now_ms)
        self._write(replace(known, schedule=schedule, last_ms=last_ms, removed_ms=0), changes)

    def _act(self, event: ScheduleEvent, known: ScheduleState, now_ms: int, changes: Changes) -> None:
        if event.action == "pause":
            paused = known.paused_ms or now_ms
            self._write(replace(known, paused_ms=paused, paused_by=event.who or known.paused_by), changes)
        elif event.action == "resume":
            # What would have been due meanwhile was not missed: somebody did not want it.
            last_ms = max(known.last_ms, now_ms) if known.paused_ms else known.last_ms
            self._write(replace(known, paused_ms=0, paused_by="", last_ms=last_ms), changes)
        else:
            self._remove(known, max(event.at_ms, known.schedule.defined_ms + 1), now_ms, changes)

    def _remove(self, known: ScheduleState, removed_ms: int, now_ms: int, changes: Changes) -> None:
        last_ms = max(known.last_ms, now_ms)
        self._write(replace(known, removed_ms=removed_ms, last_ms=last_ms, paused_ms=0, paused_by=""), changes)

    def due(self, now_ms: int, changes: Changes) -> None:
        """See `Machine`."""
        if not self._swept:
            self._swept = True
            self._sweep(now_ms, changes)
        while (due_ms := self.next_due_ms) is not None and due_ms <= now_ms and changes.room:
            _, name = heappop(self._heap)
            entry = self._entries[name]
            if entry.state.removed_ms:
                del self._entries[name]
                changes.states[name] = None
            else:
                self._fire(entry, now_ms, now_ms, changes)

    def _sweep(self, now_ms: int, changes: Changes) -> None:
        """Remove what the app no longer defines."""
        deployed_ms, names = self._deployment.deployed_ms, {each.name for each in self._deployment.schedules}
        for name, entry in list(self._entries.items()):
            known = entry.state.schedule
            is_gone = known.by == "app" and known.type in self._deployment.types and name not in names
            if is_gone and known.defined_ms < deployed_ms and not entry.state.removed_ms:
                changes.notes.append(f"schedule {name!r} is removed: the app does not define it any more")
                self._remove(entry.state, deployed_ms, now_ms, changes)

    def _fire(self, entry: _Entry, until_ms: int, now_ms: int, changes: Changes) -> None:
        known, schedule = entry.state, entry.state.schedule
        assert entry.timetable is not None
        instants = entry.timetable.newest(known.last_ms, until_ms, ALL_MAX)
        fired = chosen(schedule.misfire, instants, now_ms)
        missed = len(instants) - len(fired)
        left, fired = fired[changes.room :], fired[: changes.room]
        lane = lane_for(schedule.priority, self._lanes)
        changes.tasks += [task_of(schedule, instant, lane, now_ms) for instant in fired]
        if missed:
            changes.notes.append(
                f"schedule {schedule.name!r}: {missed:,} instants were missed until {format_ms(now_ms)}, and are not "
                f"made up for (misfire={schedule.misfire!r})"
            )
        last_ms = fired[-1] if left else instants[-1]
        self._write(replace(known, last_ms=last_ms, fired=known.fired + len(fired)), changes)


def chosen(misfire: str, instants: list[int], now_ms: int) -> list[int]:
    """Those of the instants that are due which become tasks.

    Args:
        misfire: the policy.
        instants: ascending, at least one.
        now_ms: Unix ms.
    """
    if misfire == "all":
        return instants
    on_time = [instant for instant in instants if now_ms - instant <= LATE_MS]
    return on_time or (instants[-1:] if misfire == "latest" else [])


def task_of(schedule: Schedule, instant_ms: int, lane: Lane, now_ms: int) -> Task:
    """The task of an instant."""
    due_ms = schedule.due_ms(instant_ms)
    return Task(
        id=schedule.task_id(instant_ms),
        type=schedule.type,
        payload=schedule.payload,
        content_type=schedule.content_type,
        priority=lane.level,
        max_attempts=schedule.max_attempts,
        not_before_ms=due_ms if due_ms > now_ms else 0,
        expires_ms=instant_ms + schedule.expires_ms if schedule.expires_ms else 0,
        timeout_ms=schedule.timeout_ms,
        enqueued_ms=now_ms,
        lane=lane.topic,
        source=schedule.source,
        key=schedule.key,
        value=schedule.payload,
    )


def _time_of(schedule: Schedule) -> tuple[str, int, str]:
    return schedule.cron, schedule.every_ms, schedule.tz
