"""Faults put into fairlane on purpose, one for each invariant: a simulation that does not see them proves nothing.

Invariant: each mutation changes one decision, and names the invariants that are violated by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile
from random import Random
from typing import Any
from unittest.mock import patch

from fairlane.consumer import intake, positions, settler
from fairlane.consumer.assignment import Assignment, Lease
from fairlane.consumer.changelog import Changelog, Step
from fairlane.consumer.delays import DelayHeap
from fairlane.consumer.flow import Flow
from fairlane.consumer.ledger import Ledger
from fairlane.consumer.reader import Reader
from fairlane.consumer.schedule_machine import Schedules
from fairlane.consumer.scheduler import Scheduler
from fairlane.consumer.settle_records import Settles
from fairlane.consumer.settlement import Settling
from fairlane.consumer.suspects import SuspectGate
from fairlane.consumer.tracker import PartitionTracker
from fairlane.consumer.transaction import TransactionalProducer
from fairlane.topics.offset_map import NO_LOSSES, OffsetMap
from fairlane.topics.schedules import encode
from simulation.network import Weather
from simulation.run import Result, Run
from simulation.scenario import NAMES, draw

Change = tuple[object, str, object]


@dataclass(frozen=True)
class Mutation:
    """One decision made wrong.

    Attributes:
        name: what is wrong.
        kinds: the invariants of which one is violated.
        changes: what is put in the place of what.
        world: what is the same in every world that it is tried in, so that it matters soon.
    """

    name: str
    kinds: tuple[str, ...]
    changes: Callable[[], Sequence[Change]]
    world: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """For the block, fairlane decides so."""
        with ExitStack() as stack:
            for owner, name, value in self.changes():
                stack.enter_context(patch.object(owner, name, value))
            yield

    def caught(self, first: int, seeds: int) -> tuple[int, Result] | None:
        """The first world that sees it: how many it took, and what was seen; None if none of so many does."""
        with self.applied():
            for number in range(seeds):
                seed = first + number
                result = Run(seed, replace(draw(Random(seed)), **self.world)).run()
                if result.kind:
                    return number + 1, result
        return None


def _highest_finished() -> Sequence[Change]:
    def watermark(self: Any) -> int:
        found: int = max(next(iter(self._outstanding), self._position), self._highest_finished + 1)
        return found

    return [(PartitionTracker, "watermark", property(watermark))]


def _highest_is_settled() -> Sequence[Change]:
    def snapshot(self: Any, clean: bool, losses: Mapping[int, int] = NO_LOSSES) -> OffsetMap:
        made = of_all(self, clean, losses)
        return replace(made, unfinished=tuple(takewhile(made.highest_finished.__gt__, made.unfinished)))

    of_all = PartitionTracker.snapshot
    return [(PartitionTracker, "snapshot", snapshot)]


def _no_hop() -> Sequence[Change]:
    records = Settles.records

    def without_tiers(self: Settles, settling: Settling) -> list[Any]:
        return [each for each in records(self, settling) if ".retry-" not in each.topic]

    return [(Settles, "records", without_tiers)]


def _no_letter() -> Sequence[Change]:
    records = Settles.records

    def without_letters(self: Settles, settling: Settling) -> list[Any]:
        return [each for each in records(self, settling) if not each.topic.endswith(".dlq")]

    return [(Settles, "records", without_letters)]


def _no_offsets() -> Sequence[Change]:
    run = TransactionalProducer.run

    def without_offsets(self: Any, records: Any, offsets: Any, lease: Any) -> None:
        run(self, records, offsets[1:], lease)

    return [(TransactionalProducer, "run", without_offsets)]


def _no_lease_and_no_barrier() -> Sequence[Change]:
    """A settler that takes whatever metadata is newest, for whatever it has: the schedule that was measured."""

    class Anything(Lease, frozen=True, gc=False):
        def holds(self, assigned: object) -> bool:
            return True

    lease = Assignment.lease

    def any_lease(self: Assignment, metadata: Any) -> Lease:
        made = lease(self, metadata)
        return Anything(made.number, made.metadata, made.epochs)

    def gone_at_once(self: Any, consumer: Any, partitions: Any) -> None:
        self._assignment.gone([(each.topic, each.partition) for each in partitions])
        self._intake.gone(
            [each for each in self._intake._readings if any(each.key == (p.topic, p.partition) for p in partitions)]
        )
        consumer.incremental_unassign(partitions)

    return [
        (Assignment, "lease", any_lease),
        (Reader, "_revoked", gone_at_once),
        (settler, "still_ours", lambda batch, _: (batch, ())),
        (Ledger, "drop", lambda *_: None),
    ]


def _commits_what_left() -> Sequence[Change]:
    return [(TransactionalProducer, "_look_what_left", lambda *_: None)]


def _early() -> Sequence[Change]:
    push = DelayHeap.push

    def sooner(self: Any, due_ms: int, item: Any) -> None:
        push(self, due_ms - 200, item)

    return [(DelayHeap, "push", sooner)]


def _most_urgent_only() -> Sequence[Change]:
    take = Scheduler.take

    def greedy(self: Any, limit: int) -> list[Any]:
        for lane in self._urgent_first:
            lane.tokens = 1_000_000
        return take(self, limit)

    return [(Scheduler, "take", greedy)]


def _never_overfull() -> Sequence[Change]:
    return [(intake, "fits_map", lambda *_: True)]


def _no_suspects() -> Sequence[Change]:
    return [(SuspectGate, "is_suspect", lambda *_: False)]


def _no_map() -> Sequence[Change]:
    return [(positions, "decode", lambda *_: None)]


def _not_begun_anew() -> Sequence[Change]:
    return [(Reader, "begin_anew", lambda _: None)]


def _no_end() -> Sequence[Change]:
    return [(PartitionTracker, "reached_end", lambda *_: None)]


def _never_paused() -> Sequence[Change]:
    return [(Scheduler, "pause", lambda _self, _lanes: None)]


def _never_resumed() -> Sequence[Change]:
    return [(Flow, "relieve", lambda *_: None)]


def _no_changelog() -> Sequence[Change]:
    step = Changelog.step

    def reads_nothing(self: Any) -> Step:
        return Step([], step(self).through)

    return [(Changelog, "step", reads_nothing)]


def _no_offset_of_owners() -> Sequence[Change]:
    """What only a timer caused sends no offset, so nobody asks whose partition it is, or waits for what is pending."""
    run = TransactionalProducer.run

    def without(self: Any, records: Any, offsets: Any, lease: Any) -> None:
        sent = self.__dict__.setdefault("sent", set())
        run(self, records, [each for each in offsets if (each.assigned, each.offset) not in sent], lease)
        sent.update((each.assigned, each.offset) for each in offsets if each.assigned.topic == NAMES.events)

    properties = Changelog._properties
    committed = lambda self, _: properties(self, "read_committed")  # noqa: E731
    return [(TransactionalProducer, "run", without), (Changelog, "_properties", committed)]


def _instants_twice() -> Sequence[Change]:
    """How far a schedule is goes into the changelog a turn late."""

    def late(self: Any, state: Any, changes: Any) -> None:
        before = self._entries.get(state.schedule.name)
        changes.states[state.schedule.name] = encode(before.state if before is not None else state)
        self._note(state)

    return [(Schedules, "_write", late)]


STORMY = Weather(errors=0.03, lost=0.01, fatal=0.01, gone=0.005)

SCHEDULED: dict[str, Any] = {
    "schedules": 6, "tasks": 20, "every_s": 0.5, "workers": 3, "partitions": 3, "send_s": 15.0, "storm_s": 25.0
}  # fmt: skip

MUTATIONS: tuple[Mutation, ...] = (
    Mutation("the highest finished offset is committed", ("none lost",), _highest_finished),
    Mutation(
        "the highest offset of a map that was restored counts as finished",
        ("none lost",),
        _highest_is_settled,
        # What is stuck is settled in halves if it is many; and who does so is killed before the other half is through.
        {
            "refusing_s": 12.0,
            "every_s": 0.25,
            "partitions": 1,
            "workers": 2,
            "concurrency": 50,
            "tasks": 300,
            "send_s": 15.0,
            "storm_s": 20.0,
            "buffer_records": 500,
            "limit": None,
            "batch": None,
            "unfinished": 20,
            "span": 60,
            "poison": 0.0,
            "slow_s": 0.0,
            "is_static": False,
            "weather": Weather(crashes=0.002),
        },
    ),
    Mutation("a retry is settled without its record", ("none lost",), _no_hop),
    Mutation("the first offset of a transaction is left out", ("one place",), _no_offsets),
    Mutation("the map of the last owner is ignored", ("one outcome", "one place"), _no_map, {"every_s": 0.5}),
    Mutation(
        "a slow settler sends what it has under the newest lease while a worker joins",
        ("one outcome", "one place", "none lost"),
        _no_lease_and_no_barrier,
        {"slow_s": 0.5, "every_s": 0.5, "partitions": 3, "workers": 3, "long_s": 1.0},
    ),
    Mutation(
        "offsets that were sent after their partition had left are committed",
        ("one outcome", "one place"),
        _commits_what_left,
        # Two rebalances while one settlement is on its way, which outlasts the grace.
        {
            "slow_s": 1.5,
            "revoke_grace_s": 0.5,
            "every_s": 0.3,
            "partitions": 6,
            "workers": 3,
            "long_s": 0.5,
            "send_s": 25.0,
            "storm_s": 30.0,
            "is_static": False,
            "weather": Weather(),
        },
    ),
    Mutation(
        "a map may grow beyond its bounds", ("the map",), _never_overfull, {"long_s": 8.0, "unfinished": 4, "span": 10}
    ),
    Mutation("a dead task has no letter", ("letters",), _no_letter),
    Mutation("what waits is let go 200 ms early", ("never early",), _early, {"delayed": 0.2}),
    Mutation(
        "the most urgent lane always goes first",
        ("no starvation",),
        _most_urgent_only,
        {"limit": None, "batch": None, "send_s": 2.0, "concurrency": 1},
    ),
    Mutation("a paused lane is served", ("paused",), _never_paused, {"operator_s": 0.4}),
    Mutation("losses are not recorded", ("poison",), _no_suspects, {"poison": 0.05, "partitions": 1}),
    Mutation("a producer is given up and nothing begins anew", ("progress",), _not_begun_anew, {"weather": STORMY}),
    Mutation("the end of a partition is not told", ("lag 0",), _no_end),
    Mutation(
        "a partition that was paused is never resumed",
        ("progress",),
        _never_resumed,
        {"unfinished": 4, "span": 10, "workers": 1, "partitions": 1, "tasks": 30, "send_s": 4.0, "every_s": 6.0},
    ),
    Mutation("a new owner does not read its changelog", ("once", "one transaction"), _no_changelog, SCHEDULED),
    Mutation(
        "an owner sends no offset, and its successor reads what is committed by then",
        ("once",),
        _no_offset_of_owners,
        SCHEDULED
        | {"slow_s": 6.0, "revoke_grace_s": 0.5, "weather": Weather(), "partitions": 6, "workers": 5, "storm_s": 40.0},
    ),
    Mutation("how far a schedule is is written a turn late", ("once", "one transaction"), _instants_twice, SCHEDULED),
)
