"""The places where tasks wait in a worker: for their turn, for company of their type, for their time, as suspects.

Invariant: owned by the feed's driver, as the places themselves are. What is taken out is in none of them any more, and
holds no place of its type's limit.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final

from fairlane.consumer.aside import Place
from fairlane.consumer.delays import DelayHeap
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.gathering import Gathering
from fairlane.consumer.orders import Orders
from fairlane.consumer.scheduler import Scheduler
from fairlane.topics.held_back import HeadState

_NOBODY: Final[tuple[Delivery, ...]] = ()


class Places:
    """Looks through them.

    Args:
        scheduler: those that wait for their turn.
        gathered: those that had it, and wait for company; None where no type runs in batches.
        delays: those that wait for their time.
        suspects: by their record, those that a worker may have died of.
        count: counts so many times the delivery as taken from its account; a negative number takes that back.
    """

    def __init__(
        self,
        scheduler: Scheduler[Delivery],
        gathered: Gathering | None,
        delays: DelayHeap[Delivery],
        suspects: Mapping[Place, Delivery],
        count: Callable[[Delivery, int], None],
    ) -> None:
        self._count = count
        self._scheduler = scheduler
        self._gathered = gathered
        self._delays = delays
        self._suspects = suspects
        self._paused: frozenset[str] = frozenset()
        self.paused_bytes = 0
        """The size of what waits in lanes that operators have paused: it does not hold up others; any thread."""
        self.offer: Callable[[str, str, Delivery], None] = scheduler.offer
        """Puts a task, by lane and type, at the end of its lane."""

    def oldest_ms(self, now_ms: int) -> int:
        """How long the oldest task has waited of those that are next in their lanes, since it was enqueued or due.

        Any thread. What waits for the concurrency of its type has stepped aside and does not count.
        """
        heads = [head.task for head in self._scheduler.heads()]
        # A record without any time is of no known age.
        since_ms = [due_ms for task in heads if (due_ms := max(task.enqueued_ms, task.not_before_ms))]
        return max(0, now_ms - min(since_ms)) if since_ms else 0

    def find(self, wanted: Container[Place]) -> dict[Place, tuple[HeadState, Delivery]]:
        """Those of the wanted records that wait, and for what."""
        gathered: Iterable[Delivery] = self._gathered if self._gathered is not None else _NOBODY
        places: tuple[tuple[HeadState, Iterable[Delivery]], ...] = (
            ("waiting", self._scheduler),
            ("waiting", gathered),
            ("delayed", self._delays),
            ("suspect", self._suspects.values()),
        )
        return {
            (each.assigned, each.offset): (state, each)
            for state, deliveries in places
            for each in deliveries
            if (each.assigned, each.offset) in wanted
        }

    def obey(self, orders: Orders, weights: Mapping[str, int]) -> None:
        """Let nothing of paused lanes start: of what is gathered too, which waits for its turn again."""
        scheduler, lanes = self._scheduler, orders.lanes
        scheduler.weigh(weights)
        scheduler.pause(lanes)
        gathered = self._gathered.discard(lambda each: each.task.lane in lanes) if self._gathered is not None else []
        for delivery in reversed(gathered):
            scheduler.finished(delivery.task.type)
            scheduler.offer_first(delivery.task.lane, delivery.task.type, delivery)
            self._count(delivery, -1)
        self._paused = lanes
        self.offer = self._offer_weighed if lanes else scheduler.offer
        self._weigh()

    def _offer_weighed(self, lane: str, task_type: str, delivery: Delivery) -> None:
        self._scheduler.offer(lane, task_type, delivery)
        if lane in self._paused:
            self.paused_bytes += delivery.size_bytes

    def _weigh(self) -> None:
        paused = self._paused
        self.paused_bytes = (
            sum(each.size_bytes for each in self._scheduler if each.task.lane in paused) if paused else 0
        )

    def take_out(self, goes: Callable[[Delivery], bool]) -> tuple[list[Delivery], list[Delivery]]:
        """Take out those for which `goes` holds: that wait for their turn or their time, and that are gathered."""
        in_line = [*self._scheduler.discard(goes), *self._delays.discard(goes)]
        gathered = self._gathered.discard(goes) if self._gathered is not None else []
        for delivery in gathered:
            self._scheduler.finished(delivery.task.type)
        self._weigh()
        return in_line, gathered
