"""Takes attempts away from their handlers whose tasks operators have cancelled, while they run.

Invariant: everything here happens on the executor's loop. Each attempt that is cut off still makes its own outcome:
`Cancelled`, unless its handler was through before it heard of it. One that runs in a batch with others goes on, for
their sake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Any, Protocol

from fairlane.consumer.attempt import CANCEL_PATIENCE_S, Attempts
from fairlane.consumer.control_state import cancel_of
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.thread_attempts import ThreadAttempts


class Attempt(Protocol):
    """An attempt under way."""

    @property
    def delivery(self) -> Delivery:
        """Of its task."""
        ...

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What runs it."""
        ...

    @property
    def is_batch(self) -> bool:
        """Whether others run with it."""
        ...


class Cancelling:
    """Cuts attempts off.

    Args:
        attempts: knows what is cancelled, and is told what is cut off.
        on_threads: those that run on a thread from their beginning to their end.
        running: those that run on the loop, by number.
        leave_behind: goes on without one that does not end.
    """

    def __init__(
        self,
        attempts: Attempts,
        on_threads: ThreadAttempts,
        running: Mapping[int, Attempt],
        leave_behind: Callable[[asyncio.Task[Any]], None],
    ) -> None:
        self._attempts = attempts
        self._on_threads = on_threads
        self._running = running
        self._leave_behind = leave_behind

    def cancel(self, task_ids: Container[str]) -> None:
        """These were cancelled just now; on the loop."""
        self._on_threads.cancel(task_ids)
        found = [
            number
            for number, each in self._running.items()
            if each.task is not None and not each.is_batch and each.delivery.task.id in task_ids
        ]
        if found:
            # Once each has begun: a coroutine that is cancelled before its first step never makes an outcome.
            asyncio.get_running_loop().call_soon(self._cut_off, found)

    def _cut_off(self, numbers: list[int]) -> None:
        attempts, loop = self._attempts, asyncio.get_running_loop()
        for number in numbers:
            each = self._running.get(number)
            if each is None or each.task is None or cancel_of(attempts.cancels, each.delivery.task) is None:
                continue
            task_id = each.delivery.task.id
            attempts.cancelling.add(task_id)
            each.task.add_done_callback(partial(self._ended, task_id))
            each.task.cancel()
            loop.call_later(CANCEL_PATIENCE_S, self._leave_behind, each.task)

    def _ended(self, task_id: str, _: asyncio.Task[None]) -> None:
        self._attempts.cancelling.discard(task_id)
