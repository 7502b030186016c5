"""Ends tasks that do not start: dead of their workers' deaths, or as operators ask of their type.

Invariant: each is told to the settler once, as one outcome, with a span of its own where it ends; what is only moved to
another lane has none, and costs no attempt.
"""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from fairlane.consumer.attempt_span import AttemptSpans, with_span
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.orders import Fate
from fairlane.consumer.outcome import Cancelled, Dead, Deferred, Outcome
from fairlane.consumer.settler import Settler
from fairlane.consumer.verdict import KilledByOperator, WorkerLost, describe
from fairlane.topics.events import Reason


class Unstarted:
    """Ends them.

    Args:
        config: of the worker.
        settler: is told.

    Attributes:
        letters: how many are dead, by type, lane and reason; any thread.
        dropped: how many were cancelled, by type and lane; any thread.
    """

    def __init__(self, config: WorkerConfig, settler: Settler) -> None:
        self._spans = AttemptSpans(config)
        self._settler = settler
        self.letters: Counter[tuple[str, str, str]] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()

    def lost(self, delivery: Delivery, losses: int, now_ms: int) -> None:
        """So many workers died of it."""
        self._settler.post(self._dead(delivery, "worker_lost", WorkerLost(losses), now_ms))

    def meets(self, delivery: Delivery, fate: Fate, now_ms: int) -> None:
        """It is killed, or moved."""
        task = delivery.task
        match fate.action:
            case "drop":
                self.dropped[task.type, task.lane] += 1
                with self._spans.of(delivery) as processing:
                    processing.happened("cancelled")
                outcome: Outcome = with_span(Cancelled(delivery, 0, now_ms, fate.why), processing)
            case "dlq":
                outcome = self._dead(delivery, "killed", KilledByOperator(fate.why), now_ms)
            case _:
                outcome = Deferred(moved_to(delivery, fate), now_ms)
        self._settler.post(outcome)

    def _dead(self, delivery: Delivery, reason: Reason, error: Exception, now_ms: int) -> Dead:
        self.letters[delivery.task.type, delivery.task.lane, reason] += 1
        with self._spans.of(delivery) as processing:
            processing.failed(error)
        info = describe(error, with_traceback=False)
        return with_span(Dead(delivery, now_ms, now_ms, reason, info), processing)


def moved_to(delivery: Delivery, fate: Fate) -> Delivery:
    """The same record as a task of another lane."""
    return replace(delivery, task=replace(delivery.task, lane=fate.lane, priority=fate.level))
