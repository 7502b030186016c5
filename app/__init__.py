"""fairlane: a distributed task queue for teams that already run Kafka.

Invariant: the names of `__all__` are the public ones. Each is imported when it is first used, so that a part of
fairlane costs no more than itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fairlane.app import Fairlane
    from fairlane.call import Call
    from fairlane.consumer.adaptive import Adaptive
    from fairlane.consumer.batches import BatchPolicy
    from fairlane.consumer.context import Context, context
    from fairlane.consumer.retry import RetryPolicy
    from fairlane.consumer.signals import Reject, RetryLater
    from fairlane.monitor.stats import Stats
    from fairlane.producer import TaskHandle
    from fairlane.queue import Queue
    from fairlane.scheduling import every
    from fairlane.settings import Settings
    from fairlane.task_definition import TaskDefinition
    from fairlane.topics.control_errors import TaskCancelled
    from fairlane.topics.errors import FairlaneError, ResultTimeout, TaskFailed, UsageError
    from fairlane.topics.events import StatusEvent
    from fairlane.topics.names import Lane
    from fairlane.topics.task import Task
    from fairlane.worker_pool import WorkerPool

__version__ = "0.1.0"

__all__ = [
    "Adaptive",
    "BatchPolicy",
    "Call",
    "Context",
    "Fairlane",
    "FairlaneError",
    "Lane",
    "Queue",
    "Reject",
    "ResultTimeout",
    "RetryLater",
    "RetryPolicy",
    "Settings",
    "Stats",
    "StatusEvent",
    "Task",
    "TaskCancelled",
    "TaskDefinition",
    "TaskFailed",
    "TaskHandle",
    "UsageError",
    "WorkerPool",
    "context",
    "every",
]

_HOMES: Final = {
    "Adaptive": "consumer.adaptive",
    "BatchPolicy": "consumer.batches",
    "Call": "call",
    "Context": "consumer.context",
    "Fairlane": "app",
    "FairlaneError": "topics.errors",
    "Lane": "topics.names",
    "Queue": "queue",
    "Reject": "consumer.signals",
    "ResultTimeout": "topics.errors",
    "RetryLater": "consumer.signals",
    "RetryPolicy": "consumer.retry",
    "Settings": "settings",
    "Stats": "monitor.stats",
    "StatusEvent": "topics.events",
    "Task": "topics.task",
    "TaskCancelled": "topics.control_errors",
    "TaskDefinition": "task_definition",
    "TaskFailed": "topics.errors",
    "TaskHandle": "producer",
    "UsageError": "topics.errors",
    "WorkerPool": "worker_pool",
    "context": "consumer.context",
    "every": "scheduling",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fairlane' has no attribute {name!r}")
    value = getattr(import_module(f"fairlane.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
