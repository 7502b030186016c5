"""What a handler can ask and send while it runs: `fairlane.context()`.

Invariant: a context belongs to one attempt. What it sends is collected, not sent: it becomes part of the outcome and is
written in the transaction that settles the attempt, only if it succeeds.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, Protocol

from fairlane.consumer.outcome import OutboxRecord
from fairlane.topics.codec import Unfit, dump_any
from fairlane.topics.errors import UsageError
from fairlane.topics.task import Task


class Enqueueable(Protocol):
    """Anything that becomes a task: what `some_task.call(…)` returns."""

    def to_task(self) -> Task:
        """The task, complete with id and lane."""
        ...


class TaskLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry the task's id, type and attempt."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the task's fields to those of the call."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


_logger = logging.getLogger("fairlane.task")
_TOPIC: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class Context:
    """The attempt that is running.

    Attributes:
        task: the task.
        attempt: number of this attempt, the first is 1.
        deadline: Unix time in seconds after which the attempt is cut off, or None.
        cancelled: whether the attempt should stop: its time is up or the worker is going away. A `def` handler that
            runs for long looks at it now and then; an `async def` handler is cancelled at its next await.
    """

    __slots__ = ("_log", "_outbox", "_to_record", "attempt", "cancelled", "deadline", "task")

    def __init__(self, task: Task, deadline: float | None, to_record: Callable[[Task], OutboxRecord]) -> None:
        self.task = task
        self.attempt = task.attempt
        self.deadline = deadline
        self.cancelled = False
        self._to_record = to_record
        self._outbox: list[OutboxRecord] = []
        self._log: TaskLog | None = None

    @property
    def each(self) -> tuple[Context, ...]:
        """The contexts of the tasks that run here, in order: of the one, or of each of a batch."""
        return (self,)

    @property
    def about(self) -> dict[str, Any]:
        """What a line of the log says of what runs here."""
        return {"task_id": self.task.id, "task_type": self.task.type, "attempt": self.attempt}

    @property
    def log(self) -> TaskLog:
        """A logger that names the task in every line."""
        if self._log is None:
            self._log = TaskLog(_logger, self.about)
        return self._log

    def cancel(self) -> None:
        """Ask the handler to stop."""
        self.cancelled = True

    def enqueue(self, *calls: Task | Enqueueable) -> list[str]:
        """Enqueue tasks if, and only if, this attempt succeeds, exactly once for read_committed readers.

        Args:
            calls: what `some_task.call(…)` or `some_task.options(…).call(…)` return.

        Returns:
            Their ids, known before they are written.
        """
        tasks = [call if isinstance(call, Task) else call.to_task() for call in calls]
        self._outbox.extend(map(self._to_record, tasks))
        return [task.id for task in tasks]

    def emit(
        self,
        topic: str,
        value: Any,
        *,
        key: str | bytes | None = None,
        headers: Iterable[tuple[str, str | bytes]] = (),
    ) -> None:
        """Write a record to any topic if, and only if, this attempt succeeds, exactly once for read_committed readers.

        Args:
            topic: must exist.
            value: bytes as they are, None for a tombstone, anything else as JSON.
            key: text or bytes.
            headers: names and values.

        Raises:
            UsageError: the topic is no name of one, the value is no JSON, the key or a header is no text and no bytes.
        """
        if not _TOPIC.fullmatch(_text(topic, "topic")):
            raise UsageError(
                f"{topic!r:.300} is no topic", "Use 1 to 249 letters, digits, dots, dashes and underscores"
            )
        found = tuple((_text(name, "name of a header"), _bytes(text, f"header {name!r}")) for name, text in headers)
        self._outbox.append(OutboxRecord(topic, _value(value, topic), _bytes(key, "key"), found))

    @property
    def outbox(self) -> tuple[OutboxRecord, ...]:
        """What was sent so far, in order."""
        return tuple(self._outbox)


def _value(value: Any, topic: str) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    try:
        return dump_any(value)
    except Unfit as error:
        raise UsageError(f"the value for topic {topic!r} is no JSON: {error}", "Give bytes or JSON") from error


def _bytes(given: Any, what: str) -> bytes | None:
    return given if given is None or isinstance(given, bytes) else _text(given, what).encode()


def _text(given: Any, what: str) -> str:
    if isinstance(given, str):
        try:
            given.encode()
        except UnicodeEncodeError:
            pass
        else:
            return given
    raise UsageError(f"the {what} is {given!r:.100}, which is no text", "Give text that UTF-8 can say")


current: ContextVar[Context] = ContextVar("fairlane.context")


def context() -> Context:
    """The context of the attempt that is running here.

    Raises:
        UsageError: nothing is running here: the call is not made from within a handler.
    """
    try:
        return current.get()
    except LookupError:
        raise UsageError("there is no task running here", "Call context() from within a handler") from None
