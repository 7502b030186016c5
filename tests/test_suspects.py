"""After a worker died: suspects are counted before they run, killers end, and innocents are not buried with them."""

from __future__ import annotations

import random
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import thorough

from fairlane.consumer.suspects import Command, Dead, Record, Run, SuspectGate, leaving
from fairlane.consumer.tracker import PartitionTracker
from fairlane.topics.errors import UsageError
from fairlane.topics.offset_map import MAX_SPAN, OffsetMap, decode, encode

Gate: TypeAlias = SuspectGate[str, str]
RECORD = Record("p")


def left_behind(
    losses: dict[int, int] | None = None, *, unfinished: tuple[int, ...] = (10,), highest: int = 12
) -> OffsetMap:
    return OffsetMap(10, highest, unfinished, losses or {}, clean=False)


def taken_over(known: OffsetMap | None = None, *, max_losses: int = 3, max_open: int = 16, end: int = 100) -> Gate:
    gate: Gate = SuspectGate(max_losses, max_open)
    gate.taken_over("p", known or left_behind(), end)
    return gate


def says(losses: dict[int, int]) -> OffsetMap:
    """A commit that succeeded, with these losses."""
    return OffsetMap(10, 12, (10,), losses, clean=False)


def test_a_suspect_runs_only_after_a_commit_says_that_one_more_may_die_of_it() -> None:
    gate = taken_over()
    assert gate.is_suspect("p", 10)
    assert gate.admit("p", 10, "task") == [RECORD]
    assert gate.losses("p") == {10: 1}
    assert gate.committed("p", says({})) == []  # a commit that was under way before
    assert gate.committed("p", says({10: 1})) == [Run("p", ("task",))]
    assert gate.committed("p", says({10: 1})) == []  # once
    assert gate.finished("p", 10) == []
    assert gate.losses("p") == {}


def test_records_that_came_after_the_death_are_no_suspects() -> None:
    gate = taken_over(end=15)
    assert gate.is_suspect("p", 14)
    assert not gate.is_suspect("p", 15)
    assert gate.admit("p", 15, "new") == [Run("p", ("new",))]


def test_suspects_end_a_span_beyond_the_highest_finished_however_far_behind_the_watermark_is() -> None:
    gate = taken_over(left_behind(highest=10**6), end=10**9)
    assert gate.is_suspect("p", 10**6 + MAX_SPAN)
    assert not gate.is_suspect("p", 10**6 + MAX_SPAN + 1)


def test_a_partition_that_is_not_held_has_no_suspects() -> None:
    gate = taken_over()
    assert not gate.is_suspect("other", 10)
    assert gate.committed("other", says({})) == gate.finished("other", 10) == gate.released("other") == []
    assert gate.losses("other") == {}


@pytest.mark.parametrize("known", [None, OffsetMap(10, 12, (10,), {10: 2}, clean=True)])
def test_a_new_owner_says_that_it_is_at_work_before_anything_runs(known: OffsetMap | None) -> None:
    """Else a killer that is quicker than the first commit would never be suspected."""
    gate: Gate = SuspectGate()
    assert gate.taken_over("p", known, end=100) == [RECORD]
    assert gate.is_suspect("p", 10)
    assert gate.admit("p", 10, "task") == []
    assert gate.admit("p", 13, "next") == []
    assert gate.committed("p", OffsetMap(10, 9, clean=True)) == []  # that says the opposite
    assert gate.committed("p", OffsetMap(10, 9, clean=False)) == [Run("p", ("task", "next"))]
    assert not gate.is_suspect("p", 14)


def test_what_is_settled_before_the_partition_is_announced_does_not_run() -> None:
    gate: Gate = SuspectGate()
    gate.taken_over("p", None, end=100)
    gate.admit("p", 10, "cancelled")
    gate.finished("p", 10)
    assert gate.committed("p", OffsetMap(11, 10, clean=False)) == []


def test_an_orderly_hand_over_suspects_nobody_but_remembers_losses() -> None:
    gate: Gate = SuspectGate()
    gate.taken_over("p", OffsetMap(10, 12, (10,), {10: 2}, clean=True), end=100)
    assert gate.losses("p") == {10: 2}
    gate.admit("p", 10, "task")
    assert gate.committed("p", says({10: 2})) == [Run("p", ("task",))]
    gate.finished("p", 10)
    assert gate.losses("p") == {}


@pytest.mark.parametrize(
    ("recorded", "carried", "max_losses", "losses"),
    [
        (3, 0, 3, 4),  # the fourth worker would be too many
        (0, 3, 3, 4),  # they died of it in a tier
        (1, 2, 3, 4),
        (1, 0, 1, 2),
        (9, 0, 3, 10),  # the limit was lowered meanwhile
    ],
)
def test_a_suspect_that_would_lose_one_worker_too_many_is_dead(
    recorded: int, carried: int, max_losses: int, losses: int
) -> None:
    before = {10: recorded} if recorded else {}
    gate = taken_over(left_behind(before), max_losses=max_losses)
    assert gate.admit("p", 10, "killer", carried) == [Dead("p", "killer", losses)]
    assert gate.losses("p") == before  # so the next owner finds the same if this one dies before it is settled
    assert gate.finished("p", 10) == []
    assert gate.losses("p") == {}


def test_no_more_than_max_open_suspects_of_a_partition_are_open_at_once() -> None:
    gate = taken_over(max_open=2)
    assert [gate.admit("p", offset, str(offset)) for offset in (10, 13, 14, 15)] == [[RECORD], [RECORD], [], []]
    assert gate.losses("p") == {10: 1, 13: 1}
    assert gate.committed("p", says({10: 1, 13: 1})) == [Run("p", ("10", "13"))]
    assert gate.finished("p", 13) == [RECORD]
    assert gate.losses("p") == {10: 1, 14: 1}
    assert gate.finished("p", 15) == []  # one that waited was cancelled
    assert gate.finished("p", 10) == []
    assert gate.committed("p", says({14: 1})) == [Run("p", ("14",))]


@pytest.mark.parametrize(
    ("losses", "max_losses"),
    [
        (2, 3),  # it was part of two deaths
        (2, 9),
        (1, 2),  # its next loss is the last before Dead
    ],
)
def test_a_grave_suspect_runs_alone_in_its_partition(losses: int, max_losses: int) -> None:
    gate = taken_over(left_behind({14: losses}), max_losses=max_losses)
    gate.admit("p", 10, "before")
    assert gate.admit("p", 14, "grave") == []
    assert gate.admit("p", 15, "behind") == []
    assert gate.losses("p") == {10: 1, 14: losses}
    assert gate.finished("p", 10) == [RECORD]
    assert gate.losses("p") == {14: losses + 1}
    assert gate.committed("p", says({14: losses + 1})) == [Run("p", ("grave",))]
    assert gate.finished("p", 14) == [RECORD]
    assert gate.losses("p") == {15: 1}


@pytest.mark.parametrize(
    ("losses", "max_losses"),
    [(0, 2), (0, 3), (1, 3), (1, 9)],  # it was part of one death at most, and has another loss before Dead
)
def test_other_suspects_run_together(losses: int, max_losses: int) -> None:
    gate = taken_over(left_behind({14: losses} if losses else {}), max_losses=max_losses)
    for offset in (10, 14, 15):
        assert gate.admit("p", offset, "task") == [RECORD]
    assert gate.losses("p") == {10: 1, 14: losses + 1, 15: 1}


def test_grave_suspects_of_all_partitions_run_one_at_a_time_while_others_go_on() -> None:
    gate: SuspectGate[str, str] = SuspectGate()
    for name in ("p", "q"):
        gate.taken_over(name, left_behind({10: 2}), 100)
    assert gate.admit("p", 10, "p10") == [Record("p")]
    assert gate.admit("q", 10, "q10") == []
    assert gate.admit("q", 13, "q13") == [Record("q")]
    assert gate.admit("p", 13, "p13") == []
    assert gate.finished("q", 13) == []
    assert gate.finished("p", 10) == [Record("q"), Record("p")]  # q's turn; p goes on without grave ones
    assert gate.losses("q") == {10: 3}
    assert gate.losses("p") == {13: 1}


def test_a_partition_that_is_released_passes_its_turn_on() -> None:
    gate: SuspectGate[str, str] = SuspectGate()
    for name in ("p", "q"):
        gate.taken_over(name, left_behind({10: 2}), 100)
        gate.admit(name, 10, name)
    assert gate.losses("q") == {10: 2}
    assert gate.released("p") == [Record("q")]
    assert gate.losses("q") == {10: 3}
    assert not gate.is_suspect("p", 10)


def test_a_grave_suspect_that_is_settled_while_it_waits_passes_its_turn_on() -> None:
    gate: SuspectGate[str, str] = SuspectGate()
    gate.taken_over("p", left_behind({13: 2}), 100)
    gate.taken_over("q", left_behind({10: 2}), 100)
    gate.admit("p", 10, "runs for hours")
    assert gate.admit("p", 13, "cancelled") == []
    assert gate.admit("q", 10, "q10") == []
    assert gate.finished("p", 13) == [Record("q")]


@pytest.mark.parametrize(
    ("restored", "watermark", "said"),
    [
        (None, 5, (True, {})),
        (OffsetMap(10, 12, (10,), {10: 2}, clean=True), 10, (True, {10: 2})),  # nobody is suspect, losses stay known
        (OffsetMap(10, 12, (10,), {10: 2}), 10, (False, {10: 2})),  # left as it was found
        (OffsetMap(10, 12, (10,), {10: 2}), 99, (False, {10: 2})),
        (OffsetMap(10, 12, (10,), {10: 2}), 100, (True, {10: 2})),  # all suspects are settled
    ],
)
def test_a_partition_with_unsettled_suspects_is_left_as_it_was_found(
    restored: OffsetMap | None, watermark: int, said: tuple[bool, dict[int, int]]
) -> None:
    assert leaving(restored, 100, watermark) == said


@pytest.mark.parametrize("numbers", [(0, 16), (3, 0), (3, 65)])
def test_numbers_out_of_range_are_refused(numbers: tuple[int, int]) -> None:
    with pytest.raises(UsageError):
        SuspectGate(*numbers)


Where = tuple[str, int]
END = 10**9


class Queue:
    """What survives: the log of each partition, its last commit, and what was settled."""

    def __init__(self, chance: random.Random, partitions: int, records: int, killers: int) -> None:
        self.names = [f"p{number}" for number in range(partitions)]
        self.log: dict[str, list[int]] = {}
        for name in self.names:
            offsets = sorted(chance.sample(range(records * 2), records))
            self.log[name] = offsets
        everything = [(name, offset) for name in self.names for offset in self.log[name]]
        self.killers = set(chance.sample(everything, killers))
        self.commits: dict[str, tuple[int, str]] = dict.fromkeys(self.names, (0, ""))
        self.settled: set[Where] = set()
        self.dead: set[Where] = set()
        self.everything = set(everything)
        self.kills = dict.fromkeys(self.killers, 0)

    def committed(self, name: str) -> OffsetMap | None:
        return decode(*self.commits[name])


class Worker:
    """One life of a worker that holds all partitions, wired as the docstring of the gate says."""

    def __init__(self, queue: Queue, chance: random.Random, max_losses: int, max_open: int) -> None:
        self.queue, self.chance, self.max_losses, self.max_open = queue, chance, max_losses, max_open
        self.gate: SuspectGate[str, int] = SuspectGate(max_losses, max_open)
        self.restored: dict[str, OffsetMap | None] = {}
        self.trackers: dict[str, PartitionTracker] = {}
        self.unread: dict[str, list[int]] = {}
        self.running: set[Where] = set()
        self.suspects: dict[str, int] = {}
        for name in queue.names:
            known = queue.committed(name)
            self.restored[name] = known
            self.trackers[name] = PartitionTracker(queue.commits[name][0], known)
            skip = known.finished if known else (lambda offset: False)
            self.unread[name] = [offset for offset in queue.log[name] if not skip(offset)]
            self.suspects[name] = END if known is not None and not known.clean else -1
            self.do(self.gate.taken_over(name, known, END))

    def do(self, commands: list[Command[str, int]]) -> None:
        for command in commands:
            if isinstance(command, Run):
                for offset in command.items:
                    self.run(command.partition, offset)
            elif isinstance(command, Dead):
                where = (command.partition, command.item)
                self.queue.dead.add(where)
                self.settle(where)

    def run(self, name: str, offset: int) -> None:
        known = self.queue.committed(name)
        assert known is not None
        assert not known.clean, "runs before the commit says so"
        if offset < self.suspects[name]:
            restored = self.restored[name]
            assert restored is not None
            assert known.losses[offset] == restored.losses.get(offset, 0) + 1, "runs before its loss is recorded"
        self.running.add((name, offset))
        self.check_company(name, offset)

    def check_company(self, name: str, offset: int) -> None:
        if offset >= self.suspects[name]:
            return

        def losses(where: Where) -> int:
            restored = self.restored[where[0]]
            return restored.losses.get(where[1], 0) if restored else 0

        suspects = {where for where in self.running if where[1] < self.suspects[where[0]]}
        assert len([where for where in suspects if where[0] == name]) <= self.max_open
        grave = {where for where in suspects if losses(where) >= min(2, self.max_losses - 1)}
        assert len(grave) <= 1, "two that were part of two deaths run at once"
        for where in grave:
            assert not {other for other in suspects if other[0] == where[0]} - {where}, "a grave one is not alone"

    def read(self, name: str) -> None:
        count = self.chance.randint(1, 4)
        batch, self.unread[name] = self.unread[name][:count], self.unread[name][count:]
        self.trackers[name].delivered(batch)
        for offset in batch:
            if self.gate.is_suspect(name, offset):
                self.do(self.gate.admit(name, offset, offset))
            else:
                self.run(name, offset)

    def settle(self, where: Where) -> None:
        """Into the next transaction, which holds all partitions: so no loss that is recorded later comes before it."""
        self.trackers[where[0]].finished(where[1])
        self.do(self.gate.finished(*where))

    def commit(self, *, in_order: bool = False) -> None:
        known = {}
        for name, tracker in self.trackers.items():
            last_words = leaving(self.restored[name], END, tracker.watermark)
            known[name] = tracker.snapshot(*last_words if in_order else (False, self.gate.losses(name)))
            self.queue.commits[name] = (known[name].watermark, encode(known[name]))
            finished = {(name, offset) for offset in self.queue.log[name] if known[name].finished(offset)}
            self.queue.settled |= finished
        for name in known:
            self.do(self.gate.committed(name, known[name]))

    def step(self) -> bool:
        """Do one thing; False if it died of it."""
        killers = self.running & self.queue.killers
        if killers and self.chance.random() < 0.3:
            for killer in killers:
                self.queue.kills[killer] += 1
            return False
        innocent = sorted(self.running - killers)
        readable = [name for name in self.queue.names if self.unread[name]]
        doing = self.chance.choice(["read", "finish", "finish", "commit"])
        if doing == "read" and readable:
            self.read(self.chance.choice(readable))
        elif doing == "finish" and innocent:
            where = self.chance.choice(innocent)
            self.running.remove(where)
            self.settle(where)
        else:
            self.commit()
        return True


def live_through(
    queue: Queue, chance: random.Random, max_losses: int, max_open: int, *, accidents: float = 0, departures: float = 0
) -> int:
    """Worker after worker until all is settled; returns how many died of what they ran."""
    deaths = 0
    for _ in range(2_000):
        worker = Worker(queue, chance, max_losses, max_open)
        while True:
            if not worker.step():
                deaths += 1
                break
            if chance.random() < accidents:
                break
            if chance.random() < departures:
                worker.commit(in_order=True)
                break
            if queue.settled == queue.everything:
                return deaths
    raise AssertionError("not all is settled after two thousand workers")


shapes = st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 4), st.sampled_from([1, 2, 4, 16]))


@thorough(400)
@given(shapes, st.integers(0, 2**32))
def test_a_lone_killer_is_dead_after_its_losses_and_no_innocent_is(shape: tuple[int, int, int, int], seed: int) -> None:
    partitions, records, max_losses, max_open = shape
    chance = random.Random(seed)
    queue = Queue(chance, partitions, records, killers=1)
    deaths = live_through(queue, chance, max_losses, max_open)
    assert queue.dead == queue.killers
    assert deaths == max_losses + 1


@thorough(400)
@given(shapes, st.integers(0, 3), st.integers(0, 2**32))
def test_many_killers_accidents_and_departures_end_with_all_settled(
    shape: tuple[int, int, int, int], killers: int, seed: int
) -> None:
    """Workers also vanish for no reason of ours, and leave in order; the checks are in Worker.run."""
    partitions, records, max_losses, max_open = shape
    chance = random.Random(seed)
    queue = Queue(chance, partitions, records, min(killers, partitions * records))
    live_through(queue, chance, max_losses, max_open, accidents=0.01, departures=0.01)
    assert queue.killers <= queue.dead
    assert all(kills <= max_losses + 1 for kills in queue.kills.values())
