"""The settler's side of owners: their turns on the way into Kafka, in transactions of their own.

Invariant: of an assignment there is one turn at most. A turn waits until it is through, or its assignment is over; that
Kafka does not take it holds up no outcome and, from its second try on, no other owner's turn. Beside what is written,
the offset up to which its events were fed is sent under the lease, also where it did not move, so that the turn of
somebody who owns the partition no more is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from fairlane.consumer.assignment import Lease
from fairlane.consumer.barrier import Barrier
from fairlane.consumer.delivery import Assigned
from fairlane.consumer.ledger import OffsetToCommit
from fairlane.consumer.remedies import Remedies
from fairlane.consumer.settle_meter import SettleMeter
from fairlane.consumer.settle_records import Record
from fairlane.consumer.to_settler import OwnerTurn
from fairlane.consumer.transaction import Aborted
from fairlane.topics.offset_map import OffsetMap, encode
from fairlane.topics.trouble import Trouble

_logger = logging.getLogger("fairlane.owners")

BACKOFF_S: Final = 0.05
BACKOFF_MAX_S: Final = 30.0
"""How long a turn that Kafka did not take waits before it is tried again, from its second failure on, and at most: each
try may take seconds, in which no outcome is settled."""


Run = Callable[[list[tuple[int, Record]], list[OffsetToCommit], Lease], None]


class _Waiting:
    __slots__ = ("again_at", "failures", "turn")

    def __init__(self, turn: OwnerTurn) -> None:
        self.turn = turn
        self.failures = 0
        self.again_at = 0.0


class OwnerTurns:
    """Owned by the settler's thread.

    Args:
        remedies: of its worker.
        barrier: under which leases are taken.
        meter: counts what was aborted.
    """

    def __init__(self, remedies: Remedies, barrier: Barrier, meter: SettleMeter) -> None:
        self._remedies = remedies
        self._barrier = barrier
        self._meter = meter
        self.on_settled: Callable[[Sequence[OwnerTurn]], object] = list
        """Told of turns that are in Kafka, on the settler's thread."""
        self._trouble = Trouble()
        self._waiting: dict[Assigned, _Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, turn: OwnerTurn) -> None:
        """An owner has staged something."""
        self._waiting[turn.assigned] = _Waiting(turn)

    def drop(self, assigned: Iterable[Assigned]) -> None:
        """Assignments are over: whoever comes next decides anew."""
        for each in assigned:
            self._waiting.pop(each, None)

    def drop_all(self) -> None:
        """Everything is given up."""
        self._waiting.clear()

    def wait(self, now_s: float) -> bool:
        """Whether one is to be settled now."""
        return any(each.again_at <= now_s for each in self._waiting.values())

    def settle(self, run: Run, now_s: float) -> bool:
        """Write what is to be settled now in one transaction; whether one was committed.

        Args:
            run: writes records and offsets together, under a lease.
            now_s: on the monotonic clock.

        Raises:
            ProducerGivenUp: as `run` does.
        """
        turns = self._next(now_s)
        if not turns:
            return False
        with self._barrier.transaction() as lease:
            ours = self._still_ours(turns, lease)
            if not ours:
                return False
            records = [(place, record) for place, turn in enumerate(ours) for record in turn.records]
            try:
                run(records, [offset_of(turn) for turn in ours], lease)
            except Aborted as error:
                self._meter.aborted += 1
                self._failed(ours, error, now_s)
                return False
            self._settled(ours, now_s)
            self.on_settled(ours)
            return True

    def _next(self, now_s: float) -> list[OwnerTurn]:
        """All that are tried for the first time, else one that failed before."""
        ready = [each for each in self._waiting.values() if each.again_at <= now_s]
        new = [each.turn for each in ready if not each.failures]
        return new or [each.turn for each in ready[:1]]

    def _still_ours(self, turns: Iterable[OwnerTurn], lease: Lease) -> list[OwnerTurn]:
        """Those whose partition the lease holds; somebody else owns the others, and they are dropped."""
        ours = [each for each in turns if lease.holds(each.assigned)]
        self.drop([each.assigned for each in turns if not lease.holds(each.assigned)])
        return ours

    def _settled(self, turns: Iterable[OwnerTurn], now_s: float) -> None:
        """These are in Kafka."""
        for turn in turns:
            self._waiting.pop(turn.assigned, None)
        if not any(each.failures for each in self._waiting.values()) and self._trouble.over(now_s) is not None:
            _logger.info("schedules go on")

    def _failed(self, turns: Iterable[OwnerTurn], error: Aborted, now_s: float) -> None:
        """These are not in Kafka, and are tried again, each by itself."""
        for turn in turns:
            each = self._waiting.get(turn.assigned)
            if each is None:
                continue
            each.again_at = now_s + (min(BACKOFF_MAX_S, BACKOFF_S * 2**each.failures) if each.failures else 0.0)
            each.failures = min(each.failures + 1, 20)
        self._tell(error, now_s)

    def _tell(self, error: Aborted, now_s: float) -> None:
        refused = next(iter((*error.refusals, *error.late)), None)
        if refused is not None:
            if self._trouble.tell(f"{refused.topic} {refused.code}", now_s):
                remedy = self._remedies.of_topic(refused.code, refused.topic, "Write")
                _logger.error(
                    "schedules cannot go on: Kafka refuses topic %s (%s). %s; they go on by themselves when that is "
                    "mended",
                    refused.topic,
                    refused.code,
                    remedy,
                )
        elif any(each.failures > 1 for each in self._waiting.values()) and self._trouble.tell(error.code, now_s):
            _logger.warning("what schedules are due was aborted, and is tried again: %s", error)


def offset_of(turn: OwnerTurn) -> OffsetToCommit:
    """What is committed with a turn: events are fed in order, so there is nothing unfinished."""
    return OffsetToCommit(turn.assigned, turn.offset, encode(OffsetMap(turn.offset, turn.offset - 1)))
