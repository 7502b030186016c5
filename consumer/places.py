"""The places where tasks wait in a worker: for their turn, company, their time, as suspects, or for an operator.

Invariant: owned by the feed's driver, as the places themselves are. What is taken out is in none of them any more, and
holds no place of its type's limit.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Final

from fairlane.consumer.aside import Place
from fairlane.consumer.delays import DelayHeap
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.gathering import Gathering
from fairlane.consumer.orders import HOLD, Fate, OfType, Orders
from fairlane.consumer.scheduler import Scheduler
from fairlane.consumer.standby import Standby
from fairlane.consumer.unstarted import moved_to
from fairlane.topics.held_back import HeadState

_NOBODY: Final[tuple[Delivery, ...]] = ()


class Places:
    """Looks through them.

    Args:
        scheduler: those that wait for their turn.
        gathered: those that had it, and wait for company; None where no type runs in batches.
        delays: those that wait for their time.
        suspects: by their record, those that a worker may have died of.
        room: for so many whose type is paused nobody waits: records, and bytes.
        count: counts so many times the delivery as taken from its account; a negative number takes that back.
    """

    def __init__(
        self,
        scheduler: Scheduler[Delivery],
        gathered: Gathering | None,
        delays: DelayHeap[Delivery],
        suspects: Mapping[Place, Delivery],
        room: tuple[int, int],
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
        self._types: dict[str, OfType] = {}
        self._standby = Standby(*room)
        self._fated: list[tuple[Delivery, Fate]] = []
        self._put: Callable[[str, str, Delivery], None] = scheduler.offer
        self.offer: Callable[[str, str, Delivery], None] = self._put
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
            ("waiting", self._standby),
        )
        return {
            (each.assigned, each.offset): (state, each)
            for state, deliveries in places
            for each in deliveries
            if (each.assigned, each.offset) in wanted
        }

    def obey(self, orders: Orders, weights: Mapping[str, int]) -> None:
        """Let nothing start of what is paused: of what is gathered too, which waits for its turn again."""
        scheduler, lanes = self._scheduler, orders.lanes
        scheduler.weigh(weights)
        scheduler.pause(lanes)
        self._put_back(self._gathered_of(lambda each: each.task.lane in lanes))
        self._paused = lanes
        self._put = scheduler.offer
        if lanes:
            self._put = self._offer_weighed
        before, self._types = self._types, dict(orders.types)
        self.offer = self._put
        if self._types:
            self.offer = self._offer_by_type
        if before != self._types:
            self._meet()
        self._weigh()

    def _meet(self) -> None:
        """Let the orders of types meet what waits here already."""
        free, full = self._standby.take_out(lambda _: True)
        for delivery in free:
            self._count(delivery, -1)
        may_run = [each for each in (*free, *full) if self._fate(each) is None]
        self._put_back(may_run)
        gone = [each for each in (*free, *full) if self._fate(each) is not None]
        if self._types:
            gone += self._scheduler.discard(lambda each: self._fate(each) is not None)
            gone += self._gathered_of(lambda each: self._fate(each) is not None)
        for delivery in gone:
            self.offer(delivery.task.lane, delivery.task.type, delivery)

    def _fate(self, delivery: Delivery) -> Fate | None:
        asked = self._types.get(delivery.task.type)
        return asked.fate(delivery.task) if asked is not None else None

    def _gathered_of(self, goes: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out those that are gathered and for which `goes` holds: they are not taken any more, nor hold a slot."""
        gathered = self._gathered.discard(goes) if self._gathered is not None else []
        for delivery in gathered:
            self._scheduler.finished(delivery.task.type)
            self._count(delivery, -1)
        return gathered

    def _put_back(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in reversed(deliveries):
            self._scheduler.offer_first(delivery.task.lane, delivery.task.type, delivery)

    def _offer_weighed(self, lane: str, task_type: str, delivery: Delivery) -> None:
        self._scheduler.offer(lane, task_type, delivery)
        if lane in self._paused:
            self.paused_bytes += delivery.size_bytes

    def _offer_by_type(self, lane: str, task_type: str, delivery: Delivery) -> None:
        fate = self._fate(delivery)
        if fate is None:
            self._put(lane, task_type, delivery)
        elif fate is HOLD:
            if self._standby.hold(delivery):
                self._count(delivery, 1)
            else:
                self.paused_bytes += delivery.size_bytes
        elif fate.action == "move" and delivery.account != lane:
            # Its record is in a tier: to be written into the lane first would be a hop for nothing.
            self._offer_by_type(fate.lane, task_type, moved_to(delivery, fate))
        else:
            self._fated.append((delivery, fate))

    def fated(self) -> list[tuple[Delivery, Fate]]:
        """Take those that do not start, as operators ask, with what becomes of them."""
        fated, self._fated = self._fated, []
        return fated

    def _weigh(self) -> None:
        paused = self._paused
        self.paused_bytes = self._standby.full_bytes + (
            sum(each.size_bytes for each in self._scheduler if each.task.lane in paused) if paused else 0
        )

    def take_out(self, goes: Callable[[Delivery], bool]) -> tuple[list[Delivery], list[Delivery]]:
        """Take out those for which `goes` holds: those that count for their account's buffer, and those that do not,
        since they are gathered or stand by.
        """
        in_line = [*self._scheduler.discard(goes), *self._delays.discard(goes)]
        gathered = self._gathered.discard(goes) if self._gathered is not None else []
        for delivery in gathered:
            self._scheduler.finished(delivery.task.type)
        if self._standby:
            free, full = self._standby.take_out(goes)
            in_line += full
            gathered = [*gathered, *free]
            for delivery in self._standby.set_free():
                self._count(delivery, 1)
        self._weigh()
        return in_line, gathered

    @property
    def standing_by(self) -> int:
        """How many wait since operators have paused their type, or parked them; any thread."""
        return len(self._standby)
