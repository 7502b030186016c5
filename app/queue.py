"""The brief's Queue: enqueue, dequeue, ack, nack, get_task, stats, over the parts that a worker runs on.

Invariant: it connects for what is asked of it and nothing more: a queue that only enqueues joins no consumer group.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fairlane.app import Fairlane
from fairlane.call import Call
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.pull import Pull
from fairlane.consumer.retry import RetryPolicy
from fairlane.producer import Parcel, from_json
from fairlane.settings import Settings
from fairlane.task_status import status_of
from fairlane.topics.clock import now_ms
from fairlane.topics.events import StatusEvent
from fairlane.topics.task import Task
from fairlane.working import worker_config

if TYPE_CHECKING:
    from fairlane.monitor.stats import Stats


class Queue:
    """A queue, taken one task at a time by a program of the user's.

    Args:
        queue: its name.
        settings: where Kafka is and more; from the environment and `fairlane.toml` by default.
        retry: what becomes of a task that is given back without a delay.
        concurrency: tasks that may be open at once.
    """

    def __init__(
        self,
        queue: str,
        *,
        settings: Settings | None = None,
        retry: RetryPolicy | None = None,
        concurrency: int = 100,
    ) -> None:
        self.app = Fairlane(queue, settings=settings)
        self._retry = retry or RetryPolicy()
        self._concurrency = concurrency
        self._pull: Pull | None = None
        self._lock = threading.Lock()

    def config(self, **overrides: Any) -> WorkerConfig:
        """The configuration of a worker of this queue."""
        return worker_config(self.app.names, self.app.settings, **overrides)

    def enqueue(self, task: Task | Call[Any]) -> str:
        """Enqueue a task; returns its id when Kafka has acknowledged it.

        Args:
            task: what `queue.task(…)` or `some_task.call(…)` returns.

        Raises:
            FairlaneError: as `Fairlane.enqueue`.
        """
        parcel = Parcel(task, from_json, False) if isinstance(task, Task) else task.parcel()
        return self.app.sender.enqueue(parcel).id

    def task(self, type: str, payload: Any = None, **options: Any) -> Task:  # noqa: A002
        """A task as a value: its type, a payload that has JSON, and options such as `priority=5`."""
        return self.app.call(type, payload, **options).to_task()

    def dequeue(self, timeout_s: float = 1.0) -> Task | None:
        """The next task by priority and weight; None if none came in time. It is open until `ack` or `nack`.

        Args:
            timeout_s: how long to wait, seconds.
        """
        return self._member().dequeue(timeout_s)

    def ack(self, task_id: str, result: Any = None) -> None:
        """The task is done; returns when result and offset are in Kafka.

        Raises:
            UsageError: the task is not open here, or the result has no JSON or is too large for `result_max_bytes`.
            TaskFailed: Kafka refused the result: the task is dead, for the reason that is said.
        """
        self._member().ack(task_id, result)

    def nack(self, task_id: str, delay_s: float | None = None, error: str | None = None) -> None:
        """The attempt failed: it is retried after `delay_s` seconds (None: as the policy says), or dead after the last.

        Raises:
            UsageError: the task is not open here.
        """
        self._member().nack(task_id, delay_s, error)

    def get_task(self, task_id: str) -> StatusEvent:
        """The newest that is known of a task, wherever it is.

        Raises:
            TaskUnknown: nothing in the queue speaks of it.
        """
        app = self.app
        return status_of(app.connection, app.names, task_id, lanes=app.lanes, tiers=app.tiers, now_ms=now_ms())

    def stats(self) -> Stats:
        """Lengths, counts, times and workers of the queue, as of now."""
        from fairlane.monitor.snapshot import collect

        app = self.app
        return collect(app.connection, app.names, app.lanes, app.tiers, now_ms=now_ms())

    def close(self) -> None:
        """Leave; tasks that are still open are delivered to somebody else."""
        if self._pull is not None:
            self._pull.close()
        self.app.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _member(self) -> Pull:
        with self._lock:
            if self._pull is None:
                self._pull = Pull(self.config(concurrency=self._concurrency), self._retry)
            return self._pull
