"""What a settler writes about tasks, in transactions, for tests of those who read it."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from confluent_kafka import Producer

from fairlane.topics import events
from fairlane.topics.connection import Connection
from fairlane.topics.events import ErrorInfo, State, StatusEvent
from fairlane.topics.names import QueueNames


class StandinSettler:
    """Writes status events and replies as a settler does: key is the task's id, partitioned by it, in a transaction."""

    def __init__(self, bootstrap: str, names: QueueNames) -> None:
        self._names = names
        config = Connection(bootstrap).producer()
        self._producer = Producer({**config, "transactional.id": uuid.uuid4().hex, "transaction.timeout.ms": 20_000})
        self._producer.init_transactions(20)

    def begin(self) -> None:
        """Begin a transaction."""
        self._producer.begin_transaction()

    def write(self, *written: StatusEvent) -> None:
        """Write status events into the transaction that is open."""
        for event in written:
            self._producer.produce(self._names.status, events.encode(event), event.id.encode())
        self._producer.flush(20)

    def commit(self) -> None:
        """Commit it."""
        self._producer.commit_transaction(20)

    def abort(self) -> None:
        """Abort it."""
        self._producer.abort_transaction(20)

    def settle(self, *written: StatusEvent) -> None:
        """Write status events in a transaction of their own."""
        self.begin()
        self.write(*written)
        self.commit()

    def reply(self, address: str, event: StatusEvent) -> None:
        """Write a reply in a transaction of its own."""
        topic, _, partition = address.rpartition(":")
        self.begin()
        self._producer.produce(topic, events.encode(event), event.id.encode(), int(partition))
        self.commit()


def completed(task_id: str, result: Any = None) -> StatusEvent:
    """The event of a task that returned `result`."""
    raw = msgspec.Raw(msgspec.json.encode(result))
    return StatusEvent(id=task_id, type="email", state="completed", result=raw)


def ended(task_id: str, state: State, reason: str = "") -> StatusEvent:
    """The event of a task that ended without a result."""
    error = ErrorInfo("ValueError", "no such address", "Traceback …")
    return StatusEvent(id=task_id, type="email", state=state, reason=reason, error=error)
