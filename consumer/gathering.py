"""What a worker's handlers gather: the policies of its task types, and who may run with whom.

Invariant: a task of whose attempts a worker may have died runs in a batch of its own, so that it takes nobody with it.
"""

from __future__ import annotations

from typing import Self

from fairlane.consumer.batches import Batches, BatchPolicy
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.handlers import Handlers

Batch = tuple[Delivery, ...]
"""Tasks of one type that run together."""


class Gathering(Batches[Delivery]):
    """The gathered tasks of a worker.

    Args:
        handlers: by task type; those without a policy for batches gather nothing.
    """

    def __init__(self, handlers: Handlers) -> None:
        self._rules: dict[str, tuple[BatchPolicy, int]] = {}
        limits: dict[str, tuple[BatchPolicy, int | None]] = {}
        for kind, handler in handlers.items():
            if handler.batch is not None:
                self._rules[kind] = handler.batch, handler.retry.max_attempts
                limits[kind] = handler.batch, handler.concurrency if isinstance(handler.concurrency, int) else None
        super().__init__(limits)

    @classmethod
    def of(cls, handlers: Handlers) -> Self | None:
        """That of a worker; None where no type runs in batches."""
        return cls(handlers) if any(handler.batch is not None for handler in handlers.values()) else None

    def take_in(self, delivery: Delivery, now_ms: int, *, is_suspect: bool) -> bool:
        """Gather a task that has its turn; whether it is of a type that runs in batches.

        Args:
            delivery: the task.
            now_ms: Unix ms.
            is_suspect: whether a worker may have died of it.
        """
        task = delivery.task
        rule = self._rules.get(task.type)
        if rule is None:
            return False
        policy, max_attempts = rule
        size = 1 if is_suspect else policy.size_at(task.attempt, task.max_attempts or max_attempts)
        self.add(task.type, delivery, size=size, size_bytes=len(task.payload), now_ms=now_ms)
        return True
