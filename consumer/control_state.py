"""What operators ask of this worker now: the fold of the control records, by offset and of time.

Invariant: no I/O and no clock. Of a kind and scope the record with the highest offset counts until a tombstone takes it
back or its time is over. What is held is bounded: of cancels beyond the bound, and of kinds that only a newer fairlane
knows, it is said that there are such, once.

A cancel binds what was enqueued before it and was not replayed since: an id that is enqueued again, or a letter that is
put back, is a task that nobody has cancelled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from fairlane.topics.control import CANCEL, CANCELS_MAX, PAUSE, QUEUE, ControlRecord, decode_control, split_key
from fairlane.topics.control import TASK as TASK_SCOPE
from fairlane.topics.task import Task

CANCELS_HELD_MAX: Final = 2 * CANCELS_MAX
"""Two operators may each be within the bound: what is beyond even that was written by nobody of ours."""
PAUSES_HELD_MAX: Final = 10_000


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


class Paused(NamedTuple):
    """What is not to start: the topics of lanes, and whether tiers are not to be read either."""

    lanes: frozenset[str] = frozenset()
    tiers: bool = False


NOTHING_PAUSED: Final = Paused()


class ControlState:
    """The control records of one queue, as far as a worker obeys them.

    Args:
        lanes: the topics of the worker's lanes.

    Attributes:
        cancels: by task id, what is cancelled. Changed by the owner only; others look, from any thread.
        unknown: kinds that were asked for and that nobody here knows.
        overflow: how many cancels and pauses were too many to be held.
    """

    def __init__(self, lanes: Collection[str]) -> None:
        self._lanes = tuple(lanes)
        self._pauses: dict[str, ControlRecord] = {}
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
        if kind == PAUSE:
            self._note_pause(scope, record)
        elif kind == CANCEL and scope.startswith(TASK_SCOPE):
            return self._note_cancel(scope.removeprefix(TASK_SCOPE), record)
        elif record is not None and len(self.unknown) < PAUSES_HELD_MAX:
            self.unknown.add(kind)
        return ""

    def _note_pause(self, scope: str, record: ControlRecord | None) -> None:
        if record is None:
            self._pauses.pop(scope, None)
        elif scope != QUEUE and not record.lane:
            self.unknown.add(f"{PAUSE} of {scope.partition(':')[0]}")
        elif scope in self._pauses or len(self._pauses) < PAUSES_HELD_MAX:
            self._pauses[scope] = record
        else:
            self.overflow += 1

    def _note_cancel(self, task_id: str, record: ControlRecord | None) -> str:
        if record is None:
            self.cancels.pop(task_id, None)
            return ""
        if task_id not in self.cancels and len(self.cancels) >= CANCELS_HELD_MAX:
            self.overflow += 1
            return ""
        why = f"by {record.who or 'nobody who said so'}" + (f": {record.reason}" if record.reason else "")
        self.cancels[task_id] = Cancel(record.before_ms, record.replays, record.until_ms, why)
        if record.until_ms and (self._first_end_ms is None or record.until_ms < self._first_end_ms):
            self._first_end_ms = record.until_ms
        return task_id

    def look(self, now_ms: int) -> Paused:
        """What is paused now; what has ended by itself is forgotten.

        Args:
            now_ms: Unix ms.
        """
        if self._first_end_ms is not None and self._first_end_ms <= now_ms:
            for task_id in [
                each for each, cancel in self.cancels.items() if cancel.until_ms and cancel.until_ms <= now_ms
            ]:
                del self.cancels[task_id]
            self._first_end_ms = _first(cancel.until_ms for cancel in self.cancels.values())
        for scope in [scope for scope, record in self._pauses.items() if not record.holds(now_ms)]:
            del self._pauses[scope]
        if QUEUE in self._pauses:
            return Paused(frozenset(self._lanes), tiers=True)
        paused = {record.lane for record in self._pauses.values()}
        return Paused(frozenset(lane for lane in self._lanes if lane in paused)) if paused else NOTHING_PAUSED

    @property
    def next_end_ms(self) -> int | None:
        """Before when none of them ends by itself, Unix ms; None if none ever does."""
        ends = [record.until_ms for record in self._pauses.values() if record.until_ms]
        return min([*ends, *([self._first_end_ms] if self._first_end_ms is not None else [])], default=None)


def _first(ends_ms: Iterable[int]) -> int | None:
    return min((each for each in ends_ms if each), default=None)
