"""What became of the demo's tasks, by their origins: counts, starts, retries.

Invariant: no I/O. It judges by the status events that the workers' settlements wrote, which only settled attempts have,
and counts by origin: a task that ended twice, or not at all, is found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fairlane.topics.events import TERMINAL, StatusEvent


@dataclass(frozen=True)
class Enqueued:
    """A task that is in Kafka.

    Attributes:
        origin: its record, `topic/partition/offset`.
        id: of the task.
        type: of the task.
        level: of its lane.
        kind: part of the backlog, delayed, or written by a plain Kafka client.
        delay_s: how much later it is due, seconds.
    """

    origin: str
    id: str
    type: str
    level: int
    kind: Literal["backlog", "delayed", "foreign"]
    delay_s: float = 0.0


@dataclass(frozen=True)
class LaneCount:
    """How far a lane is: tasks in all, ended, and of those dead; tasks that wait for another attempt."""

    level: int
    types: tuple[str, ...]
    total: int
    ended: int
    dead: int
    retrying: int


@dataclass(frozen=True)
class Start:
    """When tasks of the backlog's lanes began: their places in the order of the enqueue and of the first attempts."""

    level: int
    types: tuple[str, ...]
    enqueued_at: tuple[int, ...]
    started_at: tuple[int, ...]


@dataclass(frozen=True)
class Retry:
    """A failed attempt and the next one: how long was asked for and how long it took until that began, ms."""

    task: Enqueued
    failed: StatusEvent
    asked_ms: int
    waited_ms: int


class Journal:
    """Status events of the tasks that were enqueued, in the order in which they were settled."""

    def __init__(self, enqueued: Iterable[Enqueued]) -> None:
        self.tasks = {task.origin: task for task in enqueued}
        self._events: defaultdict[str, list[StatusEvent]] = defaultdict(list)

    def take(self, origin: str, event: StatusEvent) -> None:
        """Take note of an event; those of other tasks are nobody's business here."""
        if origin in self.tasks:
            self._events[origin].append(event)

    def events(self, task: Enqueued) -> Sequence[StatusEvent]:
        """All of a task, in order."""
        return tuple(self._events[task.origin])

    def last(self, task: Enqueued) -> StatusEvent | None:
        """The newest of a task."""
        found = self._events[task.origin]
        return found[-1] if found else None

    @property
    def all_ended(self) -> bool:
        """Whether every task has."""
        return all(self._ends(task) for task in self.tasks.values())

    def _ends(self, task: Enqueued) -> list[StatusEvent]:
        return [event for event in self._events[task.origin] if event.state in TERMINAL]

    def ended(self, state: str) -> list[Enqueued]:
        """Tasks that ended so."""
        return [task for task in self.tasks.values() if any(event.state == state for event in self._ends(task))]

    def problems(self) -> list[str]:
        """What does not add up: tasks that have not ended, and tasks that ended more than once."""
        missing = [task for task in self.tasks.values() if not self._ends(task)]
        twice = [task for task in self.tasks.values() if len(self._ends(task)) > 1]
        found = []
        if missing:
            found.append(f"{len(missing)} of {len(self.tasks)} tasks have not ended, such as {_names(missing)}")
        if twice:
            found.append(f"{len(twice)} tasks ended more than once, such as {_names(twice)}")
        return found

    def lanes(self) -> list[LaneCount]:
        """How far each lane is, the most urgent first."""
        counts = []
        for level, tasks in self._by_level(self.tasks.values()).items():
            ended = [self._ends(task) for task in tasks]
            retrying = [task for task in tasks if (last := self.last(task)) is not None and last.state == "retrying"]
            counts.append(
                LaneCount(
                    level,
                    _types(tasks),
                    len(tasks),
                    sum(bool(ends) for ends in ended),
                    sum(any(end.state == "failed" for end in ends) for ends in ended),
                    len(retrying),
                )
            )
        return counts

    def starts(self) -> list[Start]:
        """The order in which the backlog was enqueued, and the one in which it was begun, lane by lane."""
        backlog = [task for task in self.tasks.values() if task.kind == "backlog" and self._events[task.origin]]
        begun = sorted(backlog, key=lambda task: self._events[task.origin][0].started_ms)
        enqueued_at = {task.origin: place for place, task in enumerate(backlog, 1)}
        started_at = {task.origin: place for place, task in enumerate(begun, 1)}
        return [
            Start(
                level,
                _types(tasks),
                tuple(enqueued_at[task.origin] for task in tasks),
                tuple(started_at[task.origin] for task in tasks),
            )
            for level, tasks in self._by_level(backlog).items()
        ]

    def retries(self) -> list[Retry]:
        """Every failed attempt that another one followed, in the order of the tasks."""
        return [
            Retry(task, failed, failed.due_ms - failed.finished_ms, again.started_ms - failed.finished_ms)
            for task in self.tasks.values()
            for failed, again in zip(self._events[task.origin], self._events[task.origin][1:], strict=False)
            if failed.state == "retrying"
        ]

    @staticmethod
    def _by_level(tasks: Iterable[Enqueued]) -> dict[int, list[Enqueued]]:
        found: defaultdict[int, list[Enqueued]] = defaultdict(list)
        for task in tasks:
            found[task.level].append(task)
        return dict(sorted(found.items(), reverse=True))


def _types(tasks: Iterable[Enqueued]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(task.type for task in tasks))


def _names(tasks: Sequence[Enqueued]) -> str:
    return ", ".join(f"{task.type} {task.id} ({task.origin})" for task in tasks[:3])
