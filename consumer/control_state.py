"""What operators ask of this worker now: the fold of the control records, by offset and of time.

Invariant: no I/O and no clock. Of a kind and scope the record with the highest offset counts until a tombstone takes it
back or its time is over. What is held is bounded: of cancels beyond the bound, and of kinds that only a newer fairlane
knows, it is said that there are such, once.

A cancel binds what was enqueued before it and was not replayed since: an id that is enqueued again, or a letter that is
put back, is a task that nobody has cancelled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from fairlane.consumer.orders import HOLD, NO_ORDERS, Demotion, Fate, Kill, OfType, Orders
from fairlane.topics import condition
from fairlane.topics.control import (
    CANCEL,
    CANCELS_MAX,
    DEMOTE,
    KILL,
    LANE,
    PAUSE,
    QUEUE,
    WEIGHT,
    WEIGHT_MAX,
    ControlRecord,
    decode_control,
    split_key,
)
from fairlane.topics.control import TASK as TASK_SCOPE
from fairlane.topics.errors import UsageError
from fairlane.topics.names import Lane, QueueNames
from fairlane.topics.task import Task

CANCELS_HELD_MAX: Final = 2 * CANCELS_MAX
"""Two operators may each be within the bound: what is beyond even that was written by nobody of ours."""
ORDERS_HELD_MAX: Final = 10_000
"""Of all other kinds together."""


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """A cancel as a worker holds it.

    Attributes:
        before_ms: it binds tasks that were enqueued until then, Unix ms.
        replays: it binds tasks that were replayed so often at most.
        until_ms: when it ends by itself, Unix ms; 0 is never.
        why: who cancelled, and the reason: what the task's last status says.
    """

    before_ms: int
    replays: int
    until_ms: int
    why: str

    def binds(self, task: Task) -> bool:
        """Whether it is this task that was cancelled, rather than a later one of the same id."""
        return task.enqueued_ms <= self.before_ms and task.replays <= self.replays


def cancel_of(cancels: Mapping[str, Cancel], task: Task) -> Cancel | None:
    """The cancel that binds a task, None where there is none."""
    found = cancels.get(task.id)
    return found if found is not None and found.binds(task) else None


class ControlState:
    """The control records of one queue, as far as a worker obeys them.

    Args:
        lanes: of the worker.
        names: of the queue: nobody is demoted to somebody else's topic.

    Attributes:
        cancels: by task id, what is cancelled. Changed by the owner only; others look, from any thread.
        unknown: kinds that were asked for and that nobody here knows.
        overflow: how many were too many to be held.
    """

    def __init__(self, lanes: Collection[Lane], names: QueueNames) -> None:
        self._lanes = tuple(lane.topic for lane in lanes)
        self._levels = {lane.topic: lane.level for lane in lanes}
        self._own = frozenset(lane.topic for lane in lanes if names.owns(lane))
        self._standing: dict[tuple[str, str], ControlRecord] = {}
        """All but cancels, by kind and scope."""
        self.cancels: dict[str, Cancel] = {}
        self._first_end_ms: int | None = None
        """No cancel ends by itself before that."""
        self.unknown: set[str] = set()
        self.overflow = 0

    def note(self, key: bytes, value: bytes | None) -> str:
        """The next record of the topic, in the order of offsets; returns the id of the task that it cancels, or "".

        What is no record of a known version changes nothing; a tombstone takes back what was asked under its key.
        """
        kind, scope = split_key(key)
        record = decode_control(key, value) if value is not None else None
        if value is not None and record is None:
            return ""
        if kind in _STANDING:
            self._note_standing(kind, scope, record)
        elif kind == CANCEL and scope.startswith(TASK_SCOPE):
            return self._note_cancel(scope.removeprefix(TASK_SCOPE), record)
        elif record is not None and len(self.unknown) < ORDERS_HELD_MAX:
            self.unknown.add(kind)
        return ""

    def _note_standing(self, kind: str, scope: str, record: ControlRecord | None) -> None:
        if record is not None and not self._is_known(record):
            self.unknown.add(f"{kind} of {scope.partition(':')[0]}")
            record = None  # It is the newest word all the same: compaction leaves nothing before it.
        if record is None:
            self._standing.pop((kind, scope), None)
        elif (kind, scope) in self._standing or len(self._standing) < ORDERS_HELD_MAX:
            self._standing[kind, scope] = record
        else:
            self.overflow += 1

    def _note_cancel(self, task_id: str, record: ControlRecord | None) -> str:
        if record is None:
            self.cancels.pop(task_id, None)
            return ""
        if task_id not in self.cancels and len(self.cancels) >= CANCELS_HELD_MAX:
            self.overflow += 1
            return ""
        self.cancels[task_id] = Cancel(record.before_ms, record.replays, record.until_ms, _why(record))
        if record.until_ms and (self._first_end_ms is None or record.until_ms < self._first_end_ms):
            self._first_end_ms = record.until_ms
        return task_id

    def look(self, now_ms: int) -> Orders:
        """What is in force now; what has ended by itself is forgotten.

        Args:
            now_ms: Unix ms.
        """
        if self._first_end_ms is not None and self._first_end_ms <= now_ms:
            for task_id in [
                each for each, cancel in self.cancels.items() if cancel.until_ms and cancel.until_ms <= now_ms
            ]:
                del self.cancels[task_id]
            self._first_end_ms = _first(cancel.until_ms for cancel in self.cancels.values())
        for name in [name for name, record in self._standing.items() if not record.holds(now_ms)]:
            del self._standing[name]
        standing, lanes = self._standing, self._lanes
        if not standing:
            return NO_ORDERS
        is_paused = (PAUSE, QUEUE) in standing
        return Orders(
            lanes=frozenset(lane for lane in lanes if is_paused or (PAUSE, LANE + lane) in standing),
            tiers=is_paused,
            weights=tuple(
                (lane, found.weight) for lane in lanes if (found := standing.get((WEIGHT, LANE + lane))) is not None
            ),
            types=self._types(),
        )

    def _types(self) -> tuple[tuple[str, OfType], ...]:
        found: dict[str, OfType] = {}
        for record in sorted(self._standing.values(), key=lambda each: (each.at_ms, each.scope)):
            if not (task_type := record.task_type):
                continue
            asked = found.get(task_type, OfType())
            if record.kind == PAUSE:
                asked = asked._replace(is_paused=True)
            elif record.kind == KILL:
                asked = asked._replace(kills=(*asked.kills, _kill(record)))
            else:
                level = self._levels[record.to]
                above = frozenset(lane for lane, urgent in self._levels.items() if urgent > level)
                asked = asked._replace(demotion=Demotion(Fate("move", _why(record), record.to, level), above))
            found[task_type] = asked
        return tuple(sorted(found.items()))

    def _is_known(self, record: ControlRecord) -> bool:
        """Whether it asks for something that can be done here."""
        match record.kind:
            case "pause":
                return record.scope == QUEUE or bool(record.lane or record.task_type)
            case "weight":
                return bool(record.lane) and 1 <= record.weight <= WEIGHT_MAX
            case "kill":
                return bool(record.task_type) and record.action in _FATES and _is_condition(record.where)
            case _:
                return bool(record.task_type) and record.to in self._own

    @property
    def next_end_ms(self) -> int | None:
        """Before when none of them ends by itself, Unix ms; None if none ever does."""
        ends = [record.until_ms for record in self._standing.values() if record.until_ms]
        return min([*ends, *([self._first_end_ms] if self._first_end_ms is not None else [])], default=None)


_STANDING: Final = frozenset({PAUSE, WEIGHT, KILL, DEMOTE})
"""The kinds of what is in force until it is taken back."""
_FATES: Final = {"drop": Fate("drop"), "dlq": Fate("dlq"), "park": HOLD}


def _kill(record: ControlRecord) -> Kill:
    fate = _FATES[record.action]
    asked = condition.parse(record.where) if record.where else None
    return Kill(fate if fate is HOLD else fate._replace(why=_why(record)), asked)


def _is_condition(where: str) -> bool:
    try:
        return not where or bool(condition.parse(where))
    except UsageError:
        return False


def _why(record: ControlRecord) -> str:
    return f"by {record.who or 'nobody who said so'}" + (f": {record.reason}" if record.reason else "")


def _first(ends_ms: Iterable[int]) -> int | None:
    return min((each for each in ends_ms if each), default=None)
