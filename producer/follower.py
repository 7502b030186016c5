"""The one thread of a process that reads status events and replies for all who wait for results.

Invariant: only this thread touches the consumer. Others hand it requests and get futures. It lives while anybody waits
and a little longer; a partition of replies is positioned at its end before `expect` returns, so that no reply to a task
that is sent after that can be missed.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from fairlane.producer import fork
from fairlane.producer.session import Session
from fairlane.producer.watch import Answer, Waiter
from fairlane.topics.connection import Connection
from fairlane.topics.errors import FairlaneError, ProducerClosed, UsageError
from fairlane.topics.names import QueueNames

_log = logging.getLogger("fairlane.producer")

IDLE_S: Final = 10.0
_POLL_S: Final = 0.05
"""How long a new request may have to wait while there is nothing to read."""


@dataclass(frozen=True)
class Expect:
    """Wait for replies of tasks that are about to be sent; `address` gets where they are to be sent to."""

    waiters: tuple[Waiter, ...]
    address: Future[str | FairlaneError] = field(default_factory=Future)


@dataclass(frozen=True)
class Stop:
    """Go away, and tell all who wait."""


Request = Waiter | Expect | Stop


class Follower:
    """Reads for all who wait.

    Args:
        connection: how to talk to Kafka.
        names: the queue.
        idle_s: how long the thread and its connection outlive the last who waits, seconds.
    """

    def __init__(self, connection: Connection, names: QueueNames, *, idle_s: float = IDLE_S) -> None:
        self._connection = connection
        self._names = names
        self._idle_s = idle_s
        self._closed = False
        self._begin_afresh()
        fork.hold(self)

    def _begin_afresh(self) -> None:
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._session: Session | None = None

    @property
    def trouble(self) -> str:
        """Why Kafka cannot be read now, "" if it can."""
        session = self._session
        return session.trouble if session is not None else ""

    def watch(self, task_id: str, since_ms: int, *, ends_only: bool) -> Future[Answer]:
        """The newest event of a task, or its terminal one.

        Args:
            task_id: of the task.
            since_ms: no event of it is older, Unix ms.
            ends_only: wait for a terminal event; else take the newest there is, or None.
        """
        future: Future[Answer] = Future()
        self._ask(Waiter(task_id, since_ms, ends_only, future))
        return future

    def expect(self, task_ids: Sequence[str]) -> tuple[Future[str | FairlaneError], list[Future[Answer]]]:
        """Be ready for replies to tasks that are sent after this.

        Returns:
            The address, `topic:partition`, to name in the tasks, and what will get each reply.
        """
        waiters = tuple(Waiter(task_id, 0, True, Future()) for task_id in task_ids)
        request = Expect(waiters)
        self._ask(request)
        return request.address, [waiter.future for waiter in waiters]

    def close(self) -> None:
        """Stop the thread; who waits is told. A second call does nothing."""
        with self._lock:
            self._closed = True
            if self._thread is not None:
                self._requests.put(Stop())

    def _ask(self, request: Waiter | Expect) -> None:
        with self._lock:
            if self._closed:
                raise ProducerClosed
            self._requests.put(request)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._follow, name=f"fairlane-results-{self._names.queue}", daemon=True
                )
                self._thread.start()

    def _follow(self) -> None:
        session: Session | None = None
        try:
            session = self._session = Session(self._connection, self._names)
            while (request := self._next(session)) is not None:
                if isinstance(request, Stop):
                    break
                if isinstance(request, Waiter):
                    session.ask(request)
                elif isinstance(request, Expect):
                    session.expect(request.waiters, request.address)
        except UsageError as error:
            self._refuse_all(error)
        finally:
            with self._lock:
                # Unless it left because all was quiet, when another one may be at work already.
                if self._thread is threading.current_thread():
                    self._thread = None
                if self._session is session:
                    self._session = None
            if session is not None:
                session.close(ProducerClosed())

    def _refuse_all(self, error: UsageError) -> None:
        with self._lock:
            while not self._requests.empty():
                request = self._requests.get_nowait()
                if isinstance(request, Waiter):
                    request.answer(error)
                elif isinstance(request, Expect):
                    request.address.set_result(error)

    def _next(self, session: Session) -> Request | None:
        """The next request; reads while there is none and somebody waits; None when all is quiet for long enough."""
        while True:
            is_awaited = session.is_awaited
            try:
                return self._requests.get(block=not is_awaited, timeout=self._idle_s)
            except queue.Empty:
                if is_awaited:
                    session.read(_POLL_S)
                elif self._may_leave():
                    return None

    def _may_leave(self) -> bool:
        with self._lock:
            if not self._requests.empty():
                return False
            self._thread = None
            return True

    def after_fork_in_child(self) -> None:
        """The parent's thread is gone here, and its consumer stays the parent's."""
        if self._session is not None:
            self._session.abandon()
        self._begin_afresh()
