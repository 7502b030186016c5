"""The brief's WorkerPool: a worker of a queue on a thread of the user's program."""

from __future__ import annotations

from typing import Any

from fairlane.consumer import pool
from fairlane.queue import Queue


class WorkerPool(pool.WorkerPool):
    """Runs the tasks of a queue in the background of this process.

    Args:
        queue: whose tasks.
        workers: tasks that run at once.
        settings: other attributes of WorkerConfig, such as `grace_s`.
    """

    def __init__(self, queue: Queue, workers: int = 10, **settings: Any) -> None:
        super().__init__(queue.config(concurrency=workers, **settings))
