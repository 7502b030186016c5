"""Attempts without Kafka: a handler, a task, and what it led to, on a real event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from worker_parts import config, delivery

from fairlane.consumer.attempt import Attempts
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.handlers import Handler, Middleware
from fairlane.consumer.outcome import Outcome
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.thread_attempts import ThreadAttempts
from fairlane.consumer.threads import Threads
from fairlane.topics.clock import now_ms
from fairlane.topics.payload import Signature

ONCE_MORE: Final = RetryPolicy(max_attempts=2, base_s=5, jitter=0)


class Started(NamedTuple):
    """An attempt under way."""

    outcome: asyncio.Future[Outcome]
    cancel: Callable[[], object]


class Bench:
    """Attempts at tasks of one handler."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        middleware: Sequence[Middleware] = (),
        settings: Any = None,
        **policies: Any,
    ) -> None:
        self.threads = Threads()
        signature = Signature.of(function, task_type="send")
        handler = Handler("send", function, signature, **{"retry": ONCE_MORE, **policies})
        self.attempts = Attempts(config(**(settings or {})), {"send": handler}, middleware, self.threads)

    def run(self, read: Delivery | None = None, **task: Any) -> Outcome:
        """The outcome of an attempt that nobody disturbs."""

        async def main() -> Outcome:
            async with asyncio.timeout(90):
                return await self._start(read or delivery(**task)).outcome

        return asyncio.run(self._closing(main()))

    def disturb(self, begun: threading.Event, *, leaving: bool) -> Outcome:
        """The outcome of an attempt that is cancelled when it has begun."""

        async def main() -> Outcome:
            started = self._start(delivery())
            assert await asyncio.to_thread(begun.wait, 10)
            self.attempts.leaving = leaving
            started.cancel()
            async with asyncio.timeout(90):
                return await started.outcome

        return asyncio.run(self._closing(main()))

    def _start(self, read: Delivery) -> Started:
        """Start an attempt where a worker would: on the loop, or on a thread from its beginning to its end."""
        if read.task.type not in self.attempts.in_place:
            task = asyncio.ensure_future(self.attempts.run(read))
            return Started(task, task.cancel)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def ended(those: list[tuple[Delivery, Outcome]]) -> None:
            [(what, led_to)] = those
            assert what is read
            outcome.set_result(led_to)

        on_threads = ThreadAttempts(self.attempts, ended, on_crash=outcome.set_exception)
        on_threads.begin()
        assert on_threads.start([read], now_ms()) == []
        return Started(outcome, on_threads.stop)

    async def _closing(self, body: Awaitable[Outcome]) -> Outcome:
        try:
            return await body
        finally:
            self.threads.close()
