"""From a handle to what became of its task: by reply where it was asked for, else from the status topic.

Invariant: reading costs nothing until somebody asks, and many who ask share one thread and one connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from fairlane.producer.follower import Follower
from fairlane.producer.handle import Trail
from fairlane.producer.steps import Course, Until, arun, run
from fairlane.producer.watch import Answer
from fairlane.topics.connection import Connection
from fairlane.topics.control_errors import TaskCancelled
from fairlane.topics.errors import FairlaneError, KafkaUnreachable, ResultTimeout, TaskFailed, TaskUnknown
from fairlane.topics.events import StatusEvent
from fairlane.topics.names import QueueNames

Lookup = Callable[[str], StatusEvent]
"""Finds out about any task of the queue by its id, also about one that waits or runs. May block."""

_STATUS_S = 30.0


class Results:
    """Answers what handles ask.

    Args:
        connection: how to talk to Kafka.
        names: the queue.
        lookup: asked for statuses; without one, a task that has no event yet counts as pending.
    """

    def __init__(self, connection: Connection, names: QueueNames, lookup: Lookup | None = None) -> None:
        self.follower = Follower(connection, names)
        self._bootstrap = connection.bootstrap
        self._names = names
        self._lookup = lookup

    def status(self, trail: Trail) -> StatusEvent:
        """The newest that is known of the task."""
        return self._lookup(trail.id) if self._lookup is not None else run(self._newest(trail))

    async def astatus(self, trail: Trail) -> StatusEvent:
        """The same, for async code."""
        if self._lookup is not None:
            return await asyncio.to_thread(self._lookup, trail.id)
        return await arun(self._newest(trail))

    def end(self, trail: Trail, timeout_s: float) -> StatusEvent:
        """The event of its completion, waited for."""
        return run(self._end(trail, timeout_s))

    async def aend(self, trail: Trail, timeout_s: float) -> StatusEvent:
        """The same, for async code."""
        return await arun(self._end(trail, timeout_s))

    def close(self) -> None:
        """Read nothing any more; who waits is told."""
        self.follower.close()

    def _newest(self, trail: Trail) -> Course[StatusEvent]:
        event = yield from self._wait(trail, self._watch(trail, ends_only=False), _STATUS_S)
        if event is not None:
            return event
        if not trail.topic:
            raise TaskUnknown(trail.id, self._names.queue)
        return StatusEvent(
            id=trail.id,
            type=trail.type,
            state="pending",
            topic=trail.topic,
            partition=trail.partition,
            offset=trail.offset,
        )

    def _end(self, trail: Trail, timeout_s: float) -> Course[StatusEvent]:
        event = trail.ended
        if event is None:
            reply = trail.reply
            future = reply.follow() if reply is not None and reply.can_come else self._watch(trail, ends_only=True)
            event = yield from self._wait(trail, future, timeout_s)
            assert event is not None, "who waits for the end is not answered without it"
            trail.ended = event
        if event.state != "completed":
            error = event.error
            kind = TaskCancelled if event.state == "cancelled" else TaskFailed
            raise kind(
                trail.id,
                event.state,
                event.reason,
                error.type if error else "",
                error.message if error else "",
                error.traceback if error else "",
            )
        return event

    def _watch(self, trail: Trail, *, ends_only: bool) -> Future[Answer]:
        return self.follower.watch(trail.id, trail.since_ms, ends_only=ends_only)

    def _wait(self, trail: Trail, future: Future[Answer], timeout_s: float) -> Course[StatusEvent | None]:
        if not (yield Until(future, timeout_s)):
            trouble = self.follower.trouble
            if trouble:
                raise KafkaUnreachable(self._bootstrap, timeout_s, trouble)
            raise ResultTimeout(trail.id, timeout_s)
        answer = future.result()
        if isinstance(answer, FairlaneError):
            raise answer
        return answer
