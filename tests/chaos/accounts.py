"""The accounts: what was acknowledged and stored, what became of it, how often handlers ran, and why more than once.

Invariant: pure: the same records give the same figures. A task is its origin, the place of its first record; an id only
names it, since one that was sent twice is two tasks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from fairlane.topics.events import TERMINAL

RECENT_S: Final = 20.0
"""So long after its end a fault may still be why something is run again: sessions and transactions end first."""


class Acknowledged(msgspec.Struct, frozen=True, gc=False):
    """Kafka has acknowledged a task: when (Unix s), and the place of its record; "" where that was not said."""

    at: float
    id: str
    type: str
    origin: str = ""


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A record in which a task was first enqueued, by a producer or by an outcome."""

    origin: str
    id: str


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event of the status topic, and when it was seen (Unix s)."""

    at: float
    origin: str
    id: str
    type: str
    state: str
    attempt: int
    reason: str
    worker: str


class Run(msgspec.Struct, frozen=True, gc=False):
    """A handler began to run a task: when (Unix s), in which worker, and which attempt at which task."""

    at: float
    worker: str
    type: str
    origin: str
    attempt: int
    handbacks: int


class Fault(msgspec.Struct, frozen=True):
    """Something that was done: what, to whom, from when until it was mended (Unix s)."""

    kind: str
    target: str
    at: float
    until: float


class Evidence(msgspec.Struct, frozen=True):
    """All that is known when it is over.

    Attributes:
        acknowledged: by producers' own files.
        stored: first records, in lanes and tiers.
        waiting: origins with a record that the workers' group has not passed yet: none once the queue has drained.
        events: of the status topic, as they were seen.
        letters: origins of the dead letters.
        runs: by workers' own files.
        faults: that were injected.
        loaded_until: when the producers ended (Unix s): nobody calls a pause after it a stall.
    """

    acknowledged: Sequence[Acknowledged]
    stored: Sequence[Stored]
    waiting: Sequence[str]
    events: Sequence[Event]
    letters: Sequence[str]
    runs: Sequence[Run]
    faults: Sequence[Fault]
    loaded_until: float


class Accounts(msgspec.Struct, frozen=True):
    """The figures; those that must be empty name origins (ids where a record is missing).

    Attributes:
        acknowledged: tasks that producers were told are stored.
        stored: tasks that are stored: with those that were sent twice since nobody knew, and those that handlers sent.
        outcomes: terminal events by state.
        unfinished: without a terminal event, and not passed yet: the queue has not drained.
        lost: stored or acknowledged, and passed without a terminal event.
        outcome_duplicates: with more than one.
        children_wrong: parents that completed, and have not exactly one child.
        letters_wrong: dead tasks without exactly one letter, and letters of tasks that are not dead.
        unlike: acknowledged at a place where another task is, or none.
        unexpected: of what fails by its type completed and the other way round, by type and reason.
        runs: of handlers.
        reruns: runs of an attempt beyond its first, by cause.
        longest_stall_s: the longest time without a terminal event while there was load.
        stalled_by: the faults that were not mended at its beginning, or came in it.
        latency_s: from acknowledgement to outcome of tasks that are quick: p50, p99 and max.
    """

    acknowledged: int
    stored: int
    outcomes: Mapping[str, int]
    unfinished: int
    lost: Sequence[str]
    outcome_duplicates: Sequence[str]
    children_wrong: Sequence[str]
    letters_wrong: Sequence[str]
    unlike: Sequence[str]
    unexpected: Mapping[str, int]
    runs: int
    reruns: Mapping[str, int]
    longest_stall_s: float
    stalled_by: Sequence[str]
    latency_s: Mapping[str, float]

    @property
    def violations(self) -> Sequence[str]:
        """Everything that must not be."""
        return [*self.lost, *self.outcome_duplicates, *self.children_wrong, *self.letters_wrong, *self.unlike]


def settle_accounts(evidence: Evidence, fails: Iterable[str], parent: str, child_suffix: str) -> Accounts:
    """The accounts of what is known.

    Args:
        evidence: all that was seen.
        fails: types whose tasks are dead in the end; all others complete.
        parent: the type whose tasks send one child each, if they complete.
        child_suffix: what the child's id has after its parent's.
    """
    ended: dict[str, list[Event]] = defaultdict(list)
    for event in evidence.events:
        if event.state in TERMINAL:
            ended[event.origin].append(event)
    ids = {each.origin: each.id for each in evidence.stored}
    stored_ids = Counter(ids.values())
    open_still = [origin for origin in ids if origin not in ended]
    unfinished = set(open_still) & set(evidence.waiting)
    lost = [origin for origin in open_still if origin not in unfinished]
    lost += [each.id for each in evidence.acknowledged if each.id not in stored_ids]
    finals = [found[0] for found in ended.values()]
    expected = {True: "failed", False: "completed"}
    failing = frozenset(fails)
    parents = Counter(event.id for event in finals if event.type == parent and event.state == "completed")
    dead = Counter(event.origin for event in finals if event.state in ("failed", "expired"))
    letters = Counter(evidence.letters)
    since, until = _longest_stall(finals, evidence.loaded_until)
    causes = Counter(_causes(evidence.runs, evidence.faults))
    return Accounts(
        acknowledged=len(evidence.acknowledged),
        stored=len(ids),
        outcomes=dict(Counter(event.state for event in finals)),
        unfinished=len(unfinished),
        lost=lost,
        outcome_duplicates=[origin for origin, found in ended.items() if len(found) > 1],
        children_wrong=[each for each, count in parents.items() if stored_ids[each + child_suffix] != count],
        letters_wrong=[origin for origin in dead | letters if dead[origin] != letters[origin]],
        unlike=[each.id for each in evidence.acknowledged if each.origin and ids.get(each.origin) != each.id],
        unexpected=dict(
            Counter(
                f"{event.type} {event.state} {event.reason}".strip()
                for event in finals
                if event.state != expected[event.type in failing]
            )
        ),
        runs=len(evidence.runs),
        reruns=dict(causes.most_common()),
        longest_stall_s=round(until - since, 2),
        stalled_by=[fault.kind for fault in evidence.faults if fault.at < until and fault.until >= since],
        latency_s=_latency(evidence.acknowledged, ended),
    )


def _causes(runs: Sequence[Run], faults: Sequence[Fault]) -> Iterable[str]:
    """Why each run that was not the first of its attempt was made."""
    by_attempt: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in runs:
        by_attempt[(run.origin, run.attempt)].append(run)
    for found in by_attempt.values():
        found.sort(key=lambda run: run.at)
        for before, again in pairwise(found):
            yield cause_of(before, again, faults)


_WORKER_FAULTS: Final = ("kill_worker", "freeze_worker", "leave_worker", "rebalance_storm")


def cause_of(before: Run, again: Run, faults: Sequence[Fault]) -> str:
    """Why an attempt was run again: what was done to the worker that ran it before, or else what was done lately."""
    between = [fault for fault in faults if fault.at <= again.at and fault.until + RECENT_S >= before.at]
    for kind in _WORKER_FAULTS:
        if any(fault.kind == kind and before.worker in fault.target.split() for fault in between):
            return kind
    near = [fault for fault in between if fault.kind not in ("kill_producer", "refuse_dlq")]
    if not near:
        return "unexplained"
    latest = max(near, key=lambda fault: fault.at)
    # What is done to one worker moves the partitions of the others.
    return "rebalance" if latest.kind in (*_WORKER_FAULTS, "add_partitions") else latest.kind


def _longest_stall(finals: Sequence[Event], loaded_until: float) -> tuple[float, float]:
    """From when until when."""
    times = sorted(event.at for event in finals)
    gaps = [(earlier, later) for earlier, later in pairwise(times) if earlier < loaded_until]
    return max(gaps, key=lambda gap: gap[1] - gap[0], default=(0.0, 0.0))


def _latency(acknowledged: Sequence[Acknowledged], ended: Mapping[str, Sequence[Event]]) -> Mapping[str, float]:
    waits = sorted(
        ended[each.origin][0].at - each.at for each in acknowledged if each.type == "quick" and each.origin in ended
    )
    if not waits:
        return {}
    places = {"p50": len(waits) // 2, "p99": len(waits) * 99 // 100, "max": len(waits) - 1}
    return {name: round(waits[place], 2) for name, place in places.items()}
