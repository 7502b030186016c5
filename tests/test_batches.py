"""Gathering: batches are full or due, in order, in bounds; and who may run with whom."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from properties import thorough

from fairlane.consumer.batches import Batches, BatchPolicy
from fairlane.topics.errors import InvariantBroken, UsageError


def gathering(
    policy: BatchPolicy | None = None, limit: int | None = None, *, items: int = 0, now_ms: int = 0, size: int = 3
) -> Batches[int]:
    batches: Batches[int] = Batches({"index": (policy or BatchPolicy(max_size=3, max_wait_s=0.5), limit)})
    for item in range(items):
        batches.add("index", item, size=size, size_bytes=1, now_ms=now_ms)
    return batches


def test_a_full_batch_starts_at_once_and_the_rest_waits_for_company() -> None:
    batches = gathering(items=7)
    assert batches.pop(9, 0) == [(0, 1, 2), (3, 4, 5)]
    assert len(batches) == 1
    assert batches.next_due_ms == 500
    assert batches.pop(9, 499) == []
    assert batches.pop(9, 500) == [(6,)]
    assert len(batches) == 0
    assert batches.next_due_ms is None


def test_a_batch_that_is_due_waits_where_more_may_come_at_once() -> None:
    batches = gathering(items=2)
    assert batches.pop(9, 900, only_full=True) == []
    assert batches.pop(9, 900) == [(0, 1)]


def test_what_waits_for_a_place_is_nothing_to_wake_up_for() -> None:
    batches = gathering(items=2)
    batches.look(499)
    assert batches.next_due_ms == 500
    batches.look(500)
    assert batches.pop(0, 500) == []
    assert batches.next_due_ms is None


def test_a_batch_without_a_wait_is_what_is_there() -> None:
    batches = gathering(BatchPolicy(max_size=3, max_wait_s=0), items=4, now_ms=10)
    assert batches.pop(9, 10) == [(0, 1, 2), (3,)]


def test_as_many_batches_of_a_type_run_as_may_and_what_waits_grows_meanwhile() -> None:
    batches = gathering(limit=1, items=2)
    assert batches.pop(9, 500) == [(0, 1)]
    for item in (2, 3, 4, 5):
        batches.add("index", item, size=3, size_bytes=1, now_ms=600)
    batches.look(2_000)
    assert batches.pop(9, 2_000) == []
    assert batches.next_due_ms is None
    batches.finished("index")
    assert batches.pop(9, 2_000) == [(2, 3, 4)]
    batches.finished("index")
    assert batches.pop(9, 2_000) == [(5,)]
    batches.finished("index")
    with pytest.raises(InvariantBroken, match="none was running"):
        batches.finished("index")


def test_a_batch_is_closed_by_the_task_that_makes_it_too_large() -> None:
    batches = gathering(BatchPolicy(max_size=100, max_bytes=10))
    for item, size_bytes in enumerate((4, 5, 3, 50, 1)):
        batches.add("index", item, size=100, size_bytes=size_bytes, now_ms=0)
    assert batches.pop(9, 0) == [(0, 1, 2), (3,)]
    assert len(batches) == 1


def test_tasks_of_other_groups_are_not_mixed_and_the_oldest_batch_starts_first() -> None:
    batches = gathering(items=2, now_ms=5)
    batches.add("index", 10, size=1, size_bytes=1, now_ms=7)
    batches.add("index", 11, size=1, size_bytes=1, now_ms=6)
    assert batches.pop(9, 8) == [(10,), (11,)], "who is to run alone waits for nobody"
    batches.add("index", 12, size=1, size_bytes=1, now_ms=700)
    assert batches.pop(1, 700) == [(0, 1)]


def test_a_clock_that_is_set_back_holds_nobody_up() -> None:
    batches = gathering(items=1, now_ms=10_000)
    assert batches.pop(9, 9_000) == [(0,)]


def test_what_left_with_its_partition_is_in_no_batch() -> None:
    batches = gathering(items=5, size=9)
    assert batches.discard(lambda item: item % 2 == 0) == [0, 2, 4]
    assert len(batches) == 2
    assert batches.pop(9, 500) == [(1, 3)]
    assert gathering(items=2).discard(lambda _: True) == [0, 1]


@pytest.mark.parametrize(
    "wrong",
    [{"max_size": 0}, {"max_size": 10_001}, {"max_wait_s": -0.1}, {"max_wait_s": float("nan")}, {"max_bytes": 0}],
)
def test_a_policy_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=min(wrong)):
        BatchPolicy(**wrong)  # type: ignore[arg-type]


def test_each_attempt_runs_among_fewer_and_the_last_one_alone() -> None:
    policy = BatchPolicy(max_size=100)
    assert [policy.size_at(attempt, 5) for attempt in range(1, 7)] == [100, 32, 10, 4, 1, 1]
    assert [policy.size_at(attempt, 2) for attempt in (1, 2)] == [100, 1]
    assert policy.size_at(1, 1) == 100


@thorough(200)
@given(st.integers(1, 10_000), st.integers(1, 60))
def test_the_sizes_of_attempts_never_grow(max_size: int, max_attempts: int) -> None:
    policy = BatchPolicy(max_size=max_size)
    sizes = [policy.size_at(attempt, max_attempts) for attempt in range(1, max_attempts + 1)]
    assert sizes[0] == max_size
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= 1
    assert max_attempts == 1 or sizes[-1] == 1


SIZES = (1, 2, 5)
WAIT_MS = 100
MAX_BYTES = 40


class GatheringMachine(RuleBasedStateMachine):
    """A worker that gathers, starts, ends and loses partitions as it likes, on a clock that only goes on."""

    @initialize(limit=st.sampled_from([None, 1, 2]))
    def begin(self, limit: int | None) -> None:
        policy = BatchPolicy(max_size=5, max_wait_s=WAIT_MS / 1000, max_bytes=MAX_BYTES)
        self.batches: Batches[tuple[str, int, int]] = Batches({"a": (policy, limit), "b": (policy, None)})
        self.limits = {"a": limit, "b": None}
        self.now_ms = 0
        self.next = 0
        self.waiting: dict[tuple[str, int], list[tuple[int, int, int]]] = defaultdict(list)
        """Number, bytes and arrival of each that waits, by group."""
        self.running = {"a": 0, "b": 0}

    @rule(kind=st.sampled_from("ab"), size=st.sampled_from(SIZES), size_bytes=st.integers(0, 30))
    def gather(self, kind: str, size: int, size_bytes: int) -> None:
        self.batches.add(kind, (kind, size, self.next), size=size, size_bytes=size_bytes, now_ms=self.now_ms)
        self.waiting[(kind, size)].append((self.next, size_bytes, self.now_ms))
        self.next += 1

    @rule(ms=st.integers(0, 150))
    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        self.batches.look(self.now_ms)

    @rule(room=st.integers(0, 4), only_full=st.booleans())
    def start(self, room: int, only_full: bool) -> None:
        started = self.batches.pop(room, self.now_ms, only_full=only_full)
        assert len(started) <= room
        for batch in started:
            kind, size, _ = batch[0]
            group = self.waiting[(kind, size)]
            assert [item[2] for item in batch] == [number for number, _, _ in group[: len(batch)]], "first come"
            size_bytes = sum(each for _, each, _ in group[: len(batch)])
            assert size_bytes - group[len(batch) - 1][1] < MAX_BYTES, "closed by the one that made it so large"
            is_full = len(batch) == size or size_bytes >= MAX_BYTES
            is_due = size == 1 or self.now_ms - group[0][2] >= WAIT_MS
            assert is_full or (is_due and not only_full)
            assert 1 <= len(batch) <= size
            del group[: len(batch)]
            self.running[kind] += 1
        if len(started) < room:
            for (kind, size), group in self.waiting.items():
                if self.may_start(kind) and group:
                    assert len(group) < size, "a full batch was left although there was room"
                    assert only_full or self.now_ms - group[0][2] < WAIT_MS, "one waits longer than it may"

    def may_start(self, kind: str) -> bool:
        limit = self.limits[kind]
        return limit is None or self.running[kind] < limit

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from([kind for kind, count in self.running.items() if count]))
        self.batches.finished(kind)
        self.running[kind] -= 1

    @rule(divisor=st.integers(2, 4))
    def revoke(self, divisor: int) -> None:
        gone = self.batches.discard(lambda item: item[2] % divisor == 0)
        lost = {number for group in self.waiting.values() for number, _, _ in group if number % divisor == 0}
        assert {item[2] for item in gone} == lost
        assert len(gone) == len(lost)
        for group in self.waiting.values():
            group[:] = [each for each in group if each[0] % divisor]

    @invariant()
    def counted(self) -> None:
        assert len(self.batches) == sum(map(len, self.waiting.values()))
        assert all(limit is None or self.running[kind] <= limit for kind, limit in self.limits.items())

    @invariant()
    def wakes_for_the_next_that_time_alone_lets_start(self) -> None:
        due = [
            group[0][2] + (WAIT_MS if size > 1 else 0)
            for (kind, size), group in self.waiting.items()
            if group and self.may_start(kind)
        ]
        assert self.batches.next_due_ms == min((each for each in due if each > self.now_ms), default=None)


TestGathering = GatheringMachine.TestCase
TestGathering.settings = thorough(60, steps=30)
