"""Attempts whose record was moved aside while they run: a copy of the record stands for them from then on.

Invariant: the outcome of such an attempt settles the copy, once it was read and as long as the assignment it was read
under lasts, and nothing else. There is no moment at which the record and its copy are both unsettled in Kafka: one
transaction writes the copy and frees the record. So a worker that dies at any moment leaves one of them to be run
again, and the task has one terminal event.

An attempt is

    away      its copy is written, or about to be, and was not read yet
    home      its copy was read: it is as if the attempt had been started from it
    ended     it ended while away; its outcome waits for the copy
    lost      while it was away, the partition of the record or of the copy has left: whether the copy was written is
              not known here, whoever owns its partition runs what is there, and the outcome is void

    away -> home -> (over)      away -> ended -> (over)      away -> lost -> (over)      home -> away: moved once more

A copy is known by its origin and attempt, and by the assignment that it was written to: of the records of one origin
only one is unsettled at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.outcome import (
    Cancelled,
    Completed,
    Dead,
    Deferred,
    Expired,
    HandedBack,
    Moved,
    Outcome,
    Retrying,
)
from fairlane.topics.task import Origin

Place = tuple[Assigned, int]
"""A record: the assignment that it was read under, and its offset."""
Ended = tuple[Delivery, Outcome]
"""What an attempt was started from, and its outcome."""
OfDelivery = Completed | Retrying | Dead | Expired | Cancelled | Deferred | HandedBack | Moved


class _Attempt:
    __slots__ = ("home", "outcome", "source", "started", "target")

    def __init__(self, started: Delivery) -> None:
        self.started = started
        self.source = started.assigned
        """Where the record was that it was last moved from."""
        self.target: Assigned | None = None
        """Where the copy goes that stands for it; None once it is lost."""
        self.home: Delivery | None = None
        self.outcome: OfDelivery | None = None


class Aside:
    """The attempts of one worker whose records were moved; owned by the executor's loop.

    An attempt is named by the record that it was started from, wherever that is now.
    """

    __slots__ = ("_attempts", "_awaited")

    def __init__(self) -> None:
        self._attempts: dict[Place, _Attempt] = {}
        self._awaited: dict[Origin | None, _Attempt] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def __contains__(self, started: Delivery) -> bool:
        return (started.assigned, started.offset) in self._attempts

    @property
    def awaits(self) -> bool:
        """Whether a copy is to be read."""
        return bool(self._awaited)

    def moved(self, started: Delivery, target: Assigned) -> Delivery:
        """A copy of a running attempt's record is written, and the record freed; returns which record.

        Args:
            started: what the attempt was started from.
            target: a partition that this worker holds, where the copy goes.
        """
        attempt = self._attempts.setdefault((started.assigned, started.offset), _Attempt(started))
        freed = attempt.home or started
        attempt.source, attempt.target, attempt.home = freed.assigned, target, None
        self._awaited[started.task.origin] = attempt
        return freed

    def arrived(self, copy: Delivery) -> Delivery | Outcome | None:
        """A record was read: what the attempt was started from that it stands for, or the outcome that settles it, if
        the attempt is over; None if it stands for none.
        """
        origin = copy.task.origin
        attempt = self._awaited.get(origin)
        if attempt is None or attempt.target != copy.assigned or attempt.started.task.attempt != copy.task.attempt:
            return None
        del self._awaited[origin]
        if attempt.outcome is None:
            attempt.home = copy
            return attempt.started
        self._forget(attempt)
        return _of(attempt.outcome, attempt.started, copy)

    def home(self, started: Delivery) -> Delivery | None:
        """The record that stands for an attempt now: its own, or the copy; None while it is away, and if it is lost."""
        attempt = self._attempts.get((started.assigned, started.offset))
        return started if attempt is None else attempt.home

    def ended(self, started: Delivery, outcome: Outcome) -> Outcome | None:
        """An attempt is over; returns its outcome for the record that stands for it, None if none does."""
        attempt = self._attempts.get((started.assigned, started.offset))
        if attempt is None:
            return outcome
        assert isinstance(outcome, OfDelivery)
        if attempt.target is not None and attempt.home is None:
            attempt.outcome = outcome
            return None
        self._forget(attempt)
        return _of(outcome, started, attempt.home) if attempt.home is not None else None

    def sort_out(self, ended: Iterable[Ended]) -> tuple[list[Ended], list[Ended]]:
        """Attempts that are over: those whose outcome settles a record now, with that record, and the others."""
        at_home: list[Ended] = []
        away: list[Ended] = []
        for started, outcome in ended:
            home = self.home(started)
            settles = self.ended(started, outcome)
            if home is not None and settles is not None:
                at_home.append((home, settles))
            else:
                away.append((started, outcome))
        return at_home, away

    def left(self, assigned: Collection[Assigned]) -> None:
        """Partitions are over: attempts that are away from or to them are lost."""
        for origin, attempt in list(self._awaited.items()):
            if attempt.source in assigned or attempt.target in assigned:
                del self._awaited[origin]
                attempt.target = None
                if attempt.outcome is not None:
                    self._forget(attempt)

    def _forget(self, attempt: _Attempt) -> None:
        del self._attempts[(attempt.started.assigned, attempt.started.offset)]


def _of(outcome: OfDelivery, started: Delivery, copy: Delivery) -> Outcome:
    """The outcome of an attempt, as that of the copy; what the attempt itself lost is kept."""
    lost = outcome.delivery.losses - started.losses
    return replace(outcome, delivery=replace(copy, losses=copy.losses + lost) if lost else copy)
