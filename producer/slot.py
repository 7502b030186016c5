"""The one client that a producer has now.

Invariant: at most one client is open, made by this very process and not broken; once the slot is closed there is none
any more.
"""

from __future__ import annotations

import threading

from fairlane.producer import fork
from fairlane.producer.client import Client
from fairlane.topics.connection import Connection
from fairlane.topics.errors import ProducerClosed


class ClientSlot:
    """Makes the client when it is first asked for, again after a fork, and again when it broke."""

    def __init__(self, connection: Connection, queue: str, enqueue_timeout_s: float) -> None:
        self._connection = connection
        self._queue = queue
        self._timeout_s = enqueue_timeout_s
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._closed = False
        fork.hold(self)

    def get(self) -> Client:
        """The client, connected or connecting.

        Raises:
            ProducerClosed: the slot was closed.
        """
        client = self._client
        if client is not None and not client.broken and not self._closed:
            return client
        with self._lock:
            if self._closed:
                raise ProducerClosed
            if self._client is not None and self._client.broken:
                self._client.close(0)
                self._client = None
            if self._client is None:
                self._client = Client(self._connection, self._queue, self._timeout_s)
            return self._client

    @property
    def in_flight(self) -> int:
        """How many tasks were handed over and have no answer yet."""
        client = self._client
        return len(client.raw) if client is not None else 0

    def close(self, timeout_s: float) -> tuple[str, ...]:
        """Close the client for good.

        Returns:
            The ids of the tasks that were under way and did not arrive.
        """
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        return client.close(timeout_s) if client is not None else ()

    def after_fork_in_child(self) -> None:
        """The parent's client stays the parent's."""
        self._lock = threading.Lock()
        if self._client is not None:
            fork.abandon(self._client.raw)
            self._client = None
