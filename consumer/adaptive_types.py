"""The task types of a worker whose concurrency adapts.

Invariant: owned by the feed's driver, which tells it of every attempt of these types, once at its start and once at its
end. What moves is logged with its reason: as information where it is news, else for whoever debugs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Self

from fairlane.consumer.adaptive import Adaptive, AdaptiveLimit
from fairlane.consumer.child_errors import is_any_of
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.handlers import Handler, Handlers
from fairlane.consumer.outcome import Completed, Dead, Outcome, Retrying

_logger = logging.getLogger("fairlane.adaptive")

NEWS_FACTOR: Final = 1.5
"""A limit that is so many times what was last told, or that part of it, is news."""
NEWS_MS: Final = 5_000


def adaptive_of(handler: Handler, config: WorkerConfig) -> Adaptive | None:
    """How the concurrency of a task type adapts in this worker; None where it does not.

    That of batches does not: what one takes tells how large it is before it tells what its handler bears.
    """
    if handler.batch is not None:
        return None
    if isinstance(handler.concurrency, Adaptive):
        return handler.concurrency
    if handler.concurrency is None and config.adaptive_min is not None:
        return Adaptive(config.adaptive_min, config.concurrency)
    return None


def is_overload(handler: Handler, config: WorkerConfig, error: BaseException) -> bool:
    """Whether a handler failed as one does that asks too much of what it uses."""
    adaptive = adaptive_of(handler, config)
    return adaptive is not None and is_any_of(error, adaptive.overload)


class AdaptiveTypes:
    """The limits of these types.

    Args:
        policies: by task type.
        concurrency: attempts that the worker runs at once at all.
    """

    def __init__(self, policies: Mapping[str, Adaptive], concurrency: int) -> None:
        self._limits = {kind: AdaptiveLimit(policy, concurrency) for kind, policy in policies.items()}
        self._told = {kind: (limit.limit, 0) for kind, limit in self._limits.items()}
        for kind, policy in policies.items():
            if policy.max > concurrency:
                _logger.warning(
                    "%s may run up to %d at once, and this worker runs %d of all types: say --workers %d",
                    kind,
                    policy.max,
                    concurrency,
                    policy.max,
                )

    @classmethod
    def of(cls, handlers: Handlers, config: WorkerConfig) -> Self | None:
        """Those of a worker; None where there are none."""
        found = {kind: adaptive_of(handler, config) for kind, handler in handlers.items()}
        policies = {kind: policy for kind, policy in found.items() if policy is not None}
        return cls(policies, config.concurrency) if policies else None

    @property
    def limits(self) -> dict[str, int]:
        """How many of each may run at once now; any thread."""
        return {kind: limit.limit for kind, limit in self._limits.items()}

    def began(self, started: Iterable[Delivery]) -> None:
        """Attempts begin."""
        for delivery in started:
            limit = self._limits.get(delivery.task.type)
            if limit is not None:
                limit.began(id(delivery))

    def ended(self, ended: Iterable[tuple[Delivery, Outcome]], now_ms: int) -> Iterator[tuple[str, int]]:
        """Attempts have ended; yields the types whose limit moved, and to what."""
        for delivery, outcome in ended:
            kind = delivery.task.type
            limit = self._limits.get(kind)
            if limit is None:
                continue
            took_ms = outcome.finished_ms - outcome.started_ms if isinstance(outcome, Completed) else None
            overloaded = isinstance(outcome, Retrying | Dead) and outcome.overloaded
            change = limit.ended(id(delivery), took_ms, overloaded, now_ms)
            if change is not None:
                self._tell(kind, change.before, change.after, change.reason, now_ms)
                yield kind, change.after

    def _tell(self, kind: str, before: int, after: int, reason: str, now_ms: int) -> None:
        told, told_ms = self._told[kind]
        ratio = max(after, told) / min(after, told)
        is_news = ratio >= NEWS_FACTOR and now_ms - told_ms >= NEWS_MS
        if is_news:
            self._told[kind] = after, now_ms
        level = logging.INFO if is_news else logging.DEBUG
        _logger.log(level, "%s: %d at once, before %d: %s", kind, after, before, reason)
