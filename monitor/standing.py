"""Reads what operators ask of the workers of a queue now, for whoever looks.

Invariant: it only reads. Of each kind and scope the newest record counts, as in a worker; what nobody can read, and
what has ended by itself, is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import Message

from fairlane.monitor.offsets import Offsets
from fairlane.monitor.scan import BEGINNING, Scanner
from fairlane.monitor.task_view import TaskView
from fairlane.topics.connection import Connection
from fairlane.topics.control import CANCEL, PAUSE, TASK, ControlRecord, decode_control
from fairlane.topics.errors import RightMissing
from fairlane.topics.names import QueueNames


class Controls:
    """The control records of a queue, in the order in which they are noted."""

    def __init__(self) -> None:
        self._records: dict[bytes, ControlRecord] = {}

    def note(self, message: Message) -> None:
        """The next record of the topic."""
        key, value = message.key() or b"", message.value()
        record = decode_control(key, value) if value is not None else None
        if record is not None:
            self._records[key] = record
        elif value is None:
            self._records.pop(key, None)

    def in_force(self, now_ms: int) -> tuple[ControlRecord, ...]:
        """Those that count at that time, Unix ms: pauses first, cancels last, the oldest of them first."""
        found = [record for record in self._records.values() if record.holds(now_ms)]
        return tuple(sorted(found, key=_order))

    def standing(self, now_ms: int) -> tuple[ControlRecord, ...]:
        """All of them but the cancels."""
        found = [record for record in self._records.values() if record.kind != CANCEL and record.holds(now_ms)]
        return tuple(sorted(found, key=_order))


def _order(record: ControlRecord) -> tuple[bool, bool, int]:
    return record.kind == CANCEL, record.kind != PAUSE, record.at_ms


def in_force(
    connection: Connection, names: QueueNames, now_ms: int, *, timeout_s: float = 10
) -> tuple[ControlRecord, ...]:
    """What is asked of the workers of a queue that has a control topic: pauses first, cancels last.

    Args:
        connection: to the cluster.
        names: of the queue.
        now_ms: Unix ms.
        timeout_s: how long it may take, seconds.

    Raises:
        ReadIncomplete: there was more to read than the time allowed.
        RightMissing: we may not read it.
        KafkaUnreachable: no broker answered.
    """
    controls = Controls()
    with Scanner(connection, timeout_s=timeout_s, group=names.group) as scanner:
        for message in scanner.read({(names.control, 0): BEGINNING}):
            controls.note(message)
    return controls.in_force(now_ms)


def cancel_of(
    connection: Connection, names: QueueNames, task: TaskView, now_ms: int, *, timeout_s: float = 10
) -> ControlRecord | None:
    """The cancel in force that binds a task; None where there is none, or it cannot be read.

    Args:
        connection: to the cluster.
        names: of the queue.
        task: what is known of it: a task that was enqueued, or put back, after the cancel is another one.
        now_ms: Unix ms.
        timeout_s: how long it may take, seconds.

    Raises:
        ReadIncomplete: there was more to read than the time allowed.
        KafkaUnreachable: no broker answered.
    """
    if names.control not in Offsets(connection, timeout_s=timeout_s).partitions():
        return None
    try:
        found = in_force(connection, names, now_ms, timeout_s=timeout_s)
    except RightMissing:
        return None
    cancel = next((each for each in found if each.kind == CANCEL and each.scope == TASK + task.id), None)
    if cancel is None or task.enqueued_ms > cancel.before_ms or task.replayed_ms > cancel.at_ms:
        return None
    return cancel


class Standing:
    """Follows what is asked of the workers of one queue, but for cancels, over a connection that is kept.

    Where they may not be read (a monitor that was given its rights by an older fairlane), none is shown.

    Args:
        names: of the queue.
    """

    def __init__(self, names: QueueNames) -> None:
        self._place = (names.control, 0)
        self._controls = Controls()
        self._hidden = False

    def follow(self, scanner: Scanner, topics: Iterable[str]) -> None:
        """Read what is new.

        Args:
            scanner: reads it.
            topics: all there are.
        """
        if self._hidden or self._place[0] not in topics:
            return
        try:
            for message in scanner.read({self._place: scanner.ends.get(self._place, BEGINNING)}):
                self._controls.note(message)
        except RightMissing:
            self._hidden = True

    def now(self, now_ms: int) -> tuple[ControlRecord, ...]:
        """What is in force: pauses first."""
        return self._controls.standing(now_ms)
