"""What was read of one partition of status events or replies, and who waits for what of it.

Invariant: a waiter gets the newest event of its task. It is told of a terminal event only when everything that was in
the partition when it began to wait has been read, so that the end of a task that was replayed is not the end of its
replay. From `covered_from` on, the newest event of every task that was read is remembered: who asks for what is older
makes the partition be read again from there.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from fairlane.topics import events
from fairlane.topics.errors import FairlaneError
from fairlane.topics.events import TERMINAL, StatusEvent

REMEMBERED_BYTES: Final = 4 * 1024 * 1024
ENTRY_BYTES: Final = 450
"""What Python needs for an event besides its bytes: id, tuple, number, and a place in an ordered dictionary."""

Answer = StatusEvent | FairlaneError | None


@dataclass(eq=False)
class Waiter:
    """Somebody who waits for an event of a task.

    Attributes:
        task_id: of the task.
        since_ms: no event of it is older, Unix ms.
        ends_only: wait for a terminal event; else take the newest there is, or None.
        future: gets the answer. Whoever no longer waits cancels it.
        until: the offset below which everything has to be read first.
    """

    task_id: str
    since_ms: int
    ends_only: bool
    future: Future[Answer]
    until: int = 0
    newest: StatusEvent | None = None

    def answer(self, answer: Answer) -> None:
        """Tell it, unless it no longer waits."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(answer)


class Watch:
    """One partition that is followed.

    Args:
        start: offset of the first record that is read.
        end: offset at which the partition ends now, as far as is known.
        since_ms: every record from that time on is at `start` or after it, Unix ms.
    """

    def __init__(self, start: int, end: int, since_ms: int, *, remembered_bytes: int = REMEMBERED_BYTES) -> None:
        self.covered_from = start
        self.end = end
        self._position = start
        self._since_ms = since_ms
        self._limit_bytes = remembered_bytes
        self._held_bytes = 0
        self._remembered: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._waiters: dict[str, list[Waiter]] = {}
        # Those that have their event and wait only for the rest to be read.
        self._ripe: list[Waiter] = []

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits; those who gave up are forgotten here."""
        for task_id, waiters in list(self._waiters.items()):
            left = [waiter for waiter in waiters if not waiter.future.cancelled()]
            if left:
                self._waiters[task_id] = left
            else:
                del self._waiters[task_id]
        return bool(self._waiters)

    def covers(self, since_ms: int) -> bool:
        """Whether all that is not older than this was read, or will be."""
        return since_ms >= self._since_ms

    def rewind(self, start: int, since_ms: int) -> None:
        """The partition is read again from `start` on."""
        self._since_ms = since_ms
        self.covered_from = start
        self._position = start

    def add(self, waiter: Waiter, end: int) -> None:
        """Have somebody wait; what is covered already may answer at once.

        Args:
            waiter: who.
            end: offset at which the partition ends now, as far as is known.
        """
        self.end = max(self.end, end)
        waiter.until = self.end
        remembered = self._remembered.get(waiter.task_id)
        if remembered is not None:
            waiter.newest = events.decode_status(remembered[1])
        self._waiters.setdefault(waiter.task_id, []).append(waiter)
        self._ripe.append(waiter)
        self._tell_the_ripe()

    def read(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """A record was read."""
        self._position = offset + 1
        self.end = max(self.end, self._position)
        if key is not None and value is not None:
            task_id = key.decode("utf-8", "replace")
            if self._remember(task_id, offset, value) and task_id in self._waiters:
                event = events.decode_status(value)
                for waiter in self._waiters[task_id] if event is not None else ():
                    waiter.newest = event
                    self._ripe.append(waiter)
        if self._ripe:
            self._tell_the_ripe()

    def reached(self, offset: int) -> None:
        """All there is was read, up to this offset: an end that records of open transactions hide is none."""
        self._position = self.end = offset
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.until = min(waiter.until, offset)
                self._ripe.append(waiter)
        self._tell_the_ripe()

    def fail(self, error: FairlaneError) -> None:
        """Nothing more can be read: tell everybody."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.answer(error)
        self._waiters.clear()
        self._ripe.clear()

    def _remember(self, task_id: str, offset: int, value: bytes) -> bool:
        """Whether the record is the newest of its task so far."""
        before = self._remembered.get(task_id)
        if before is not None:
            if before[0] > offset:
                return False
            self._held_bytes -= len(before[1]) + ENTRY_BYTES
        self._remembered[task_id] = (offset, value)
        self._remembered.move_to_end(task_id)
        self._held_bytes += len(value) + ENTRY_BYTES
        while self._held_bytes > self._limit_bytes and len(self._remembered) > 1:
            _, (forgotten, dropped) = self._remembered.popitem(last=False)
            self._held_bytes -= len(dropped) + ENTRY_BYTES
            if forgotten >= self.covered_from:
                self.covered_from = forgotten + 1
                # No time is known for the new beginning, so that nothing counts as covered until it is looked up.
                self._since_ms = 1 << 62
        return True

    def _tell_the_ripe(self) -> None:
        ripe, self._ripe = self._ripe, []
        for waiter in ripe:
            if waiter.future.done():
                continue
            if self._position < waiter.until:
                if waiter.newest is not None or not waiter.ends_only:
                    self._ripe.append(waiter)
            elif not waiter.ends_only or (waiter.newest is not None and waiter.newest.state in TERMINAL):
                waiter.answer(waiter.newest)
                self._drop(waiter)

    def _drop(self, waiter: Waiter) -> None:
        left = [other for other in self._waiters[waiter.task_id] if other is not waiter]
        if left:
            self._waiters[waiter.task_id] = left
        else:
            del self._waiters[waiter.task_id]
