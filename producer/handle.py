"""What `enqueue` returns: the task's id and place, and the way to its status and result.

Invariant: a handle never changes and holds no connection; it may be kept, or dropped, at no cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from fairlane.producer.reply import Reply
from fairlane.topics.events import StatusEvent
from fairlane.topics.ids import made_at_ms

R = TypeVar("R")

RESULT_TIMEOUT_S: Final = 60.0


def from_json(result: bytes) -> Any:
    """A result as plain Python values, for a task whose handler is not known here."""
    return msgspec.json.decode(result)


class Trail(msgspec.Struct, eq=False, gc=False):
    """What is known here of a task that is in Kafka.

    Attributes:
        id: of the task.
        type: its task type, "" where it is not known here.
        topic: of the lane or tier that it was enqueued in, "" where it is not known here.
        partition: of its record, -1 where it is not known here.
        offset: of its record, -1 where it is not known here.
        enqueued_ms: when it was enqueued, Unix ms, 0 where it is not known here.
        reply: gets its terminal event, where a reply was asked for.
        ended: its terminal event, once somebody has seen it.
    """

    id: str
    type: str = ""
    topic: str = ""
    partition: int = -1
    offset: int = -1
    enqueued_ms: int = 0
    reply: Reply | None = None
    ended: StatusEvent | None = None

    @property
    def since_ms(self) -> int:
        """No event of the task is older, Unix ms; 0 where nothing is known."""
        made_ms = made_at_ms(self.id)
        if made_ms is None:
            return self.enqueued_ms
        return min(made_ms, self.enqueued_ms) if self.enqueued_ms else made_ms


class Watcher(Protocol):
    """Who knows what became of tasks."""

    def status(self, trail: Trail) -> StatusEvent:
        """The newest that is known of the task."""
        ...

    async def astatus(self, trail: Trail) -> StatusEvent:
        """The same, for async code."""
        ...

    def end(self, trail: Trail, timeout_s: float) -> StatusEvent:
        """The event of the task's completion, waited for; raises unless it completed."""
        ...

    async def aend(self, trail: Trail, timeout_s: float) -> StatusEvent:
        """The same, for async code."""
        ...


class TaskHandle(msgspec.Struct, Generic[R], frozen=True, eq=False, weakref=True):
    """A task that is in Kafka: its id and place, its status, and its result when there is one."""

    _trail: Trail
    _watcher: Watcher
    _load: Callable[[bytes], R]

    @property
    def id(self) -> str:
        """The task's id: what `fairlane status --task-id` takes."""
        return self._trail.id

    @property
    def topic(self) -> str:
        """Topic of the lane or tier that it was enqueued in, "" where that is not known here."""
        return self._trail.topic

    @property
    def partition(self) -> int:
        """Partition of its record, -1 where that is not known here."""
        return self._trail.partition

    @property
    def offset(self) -> int:
        """Offset of its record, -1 where that is not known here."""
        return self._trail.offset

    def __repr__(self) -> str:
        place = f" at {self.topic}/{self.partition}/{self.offset}" if self.topic else ""
        return f"<TaskHandle {self.id}{place}>"

    def status(self) -> StatusEvent:
        """The newest that is known of the task.

        Raises:
            KafkaUnreachable: no broker answered.
            TaskUnknown: nothing in the queue speaks of it (any more).
        """
        return self._watcher.status(self._trail)

    async def astatus(self) -> StatusEvent:
        """The same as `status`, for async code."""
        return await self._watcher.astatus(self._trail)

    def result(self, timeout_s: float = RESULT_TIMEOUT_S) -> R:
        """What the handler returned, waited for.

        Args:
            timeout_s: how long to wait, seconds.

        Raises:
            TaskFailed: it ended without a result: failed or expired.
            TaskCancelled: an operator cancelled it; it is a TaskFailed too.
            ResultTimeout: it has not ended yet; it goes on all the same.
            InvalidResult: what it returned is not what its handler's signature says here.
            KafkaUnreachable: no broker answered.
        """
        return self._load(bytes(self._watcher.end(self._trail, timeout_s).result))

    async def aresult(self, timeout_s: float = RESULT_TIMEOUT_S) -> R:
        """The same as `result`, for async code."""
        return self._load(bytes((await self._watcher.aend(self._trail, timeout_s)).result))
