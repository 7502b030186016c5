"""A worker inside of a program of the user's: the brief's WorkerPool, on a thread of its own.

Invariant: it is a Worker and nothing else; the thread only gives it an event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from fairlane.consumer import event_loop
from fairlane.consumer.attempt import Attempts
from fairlane.consumer.batch_attempt import BatchAttempts
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.handlers import Handler
from fairlane.consumer.outcome import Outcome
from fairlane.consumer.threads import Threads
from fairlane.consumer.worker import Worker
from fairlane.topics.errors import UsageError
from fairlane.topics.payload import Signature
from fairlane.topics.task import Task


class WorkerPool:
    """Runs the tasks of a queue in the background of this process.

    Args:
        config: of the worker; its concurrency is the number of tasks that run at once.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._handlers: dict[str, Handler] = {}
        self._worker: Worker | None = None
        self._thread: threading.Thread | None = None
        self._exit_code = 0
        self._error: BaseException | None = None

    def register_handler(self, task_type: str, function: Callable[..., Any], **policies: Any) -> None:
        """Say what runs tasks of a type.

        Args:
            task_type: the type.
            function: `async def` or `def`; its parameters are the payload, or with `batch` a list of payloads.
            policies: as in `Handler`: retry, timeout_s, concurrency, isolation, on_invalid, batch.

        Raises:
            UsageError: the pool runs already, or the type has a handler.
        """
        if self._worker is not None:
            raise UsageError("the pool runs already", "Register handlers before start()")
        if task_type in self._handlers:
            raise UsageError(f"task type {task_type!r} has a handler already", "Register one handler for a type")
        read = Signature.of if policies.get("batch") is None else Signature.of_items
        signature = read(function, task_type=task_type)
        self._handlers[task_type] = Handler(task_type, function, signature, **policies)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that runs the handlers, while the pool runs."""
        return self._worker.loop if self._worker is not None else None

    def start(self, timeout_s: float = 10.0) -> None:
        """Start it; returns when it reads and runs tasks.

        Raises:
            FairlaneError: it cannot start.
            UsageError: it runs already.
        """
        if self._worker is not None:
            raise UsageError("the pool runs already", "Start it once")
        self._worker = Worker(self._config, self._handlers)
        self._thread = threading.Thread(target=self._run, args=(self._worker,), name="fairlane-pool", daemon=True)
        self._thread.start()
        self._worker.ready.wait(timeout_s)
        if self._error is not None:
            raise self._error

    def stop(self, timeout_s: float | None = None) -> int:
        """End in good order: nothing new starts, what runs may end within the grace. Returns the exit code.

        Args:
            timeout_s: how long to wait for that, seconds; None is the grace and what settling takes.
        """
        if self._worker is None or self._thread is None:
            return 0
        self._worker.stop()
        self._thread.join(self._config.grace_s + 30.0 if timeout_s is None else timeout_s)
        if self._error is not None:
            raise self._error
        return self._exit_code

    async def process(self, task: Task) -> Outcome:
        """Run one task now, by its registered handler, without Kafka; returns what it led to."""
        delivery = Delivery(task, Assigned("", 0, 0), 0, "", 0)
        handler = self._handlers.get(task.type)
        threads = Threads()
        try:
            attempts = Attempts(self._config, self._handlers, (), threads)
            if handler is None or handler.batch is None:
                return await attempts.run(delivery)
            (outcome,) = await BatchAttempts(self._config, self._handlers, attempts).run([delivery])
            return outcome
        finally:
            threads.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, worker: Worker) -> None:
        try:
            self._exit_code = event_loop.run(worker.run())
        except BaseException as error:  # noqa: BLE001 - start() and stop() raise it where somebody sees it
            self._error = error
        finally:
            worker.ready.set()
