"""Attempts whose record was moved: their outcome settles the copy, exactly once, or nobody's."""

from __future__ import annotations

import dataclasses

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace
from properties import thorough
from worker_parts import NOW_MS, P5, completed, delivery

from fairlane.consumer.aside import Aside
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.outcome import Completed, Dead, Outcome
from fairlane.topics.task import Origin

TIER = Assigned("shop.retry-1s", 0, 2)


def copy_of(moved: Delivery, target: Assigned = TIER, offset: int = 40) -> Delivery:
    """What is read of a record that was moved."""
    return replace(moved, assigned=target, offset=offset, account="tiers", losses=0, task=moved.kept)


def test_an_attempt_that_ends_at_home_settles_the_copy() -> None:
    aside, moved = Aside(), delivery(7)
    assert aside.moved(moved, TIER) is moved
    copy = copy_of(moved)
    assert aside.arrived(copy) is moved
    assert aside.home(moved) is copy
    assert aside.ended(moved, completed(7)) == replace(completed(7), delivery=copy)
    assert len(aside) == 0


def test_an_attempt_that_ends_while_away_waits_for_its_copy() -> None:
    aside, moved = Aside(), delivery(7)
    aside.moved(moved, TIER)
    assert aside.ended(moved, completed(7)) is None
    copy = copy_of(moved)
    assert aside.arrived(copy) == replace(completed(7), delivery=copy)
    assert len(aside) == 0
    assert aside.arrived(copy) is None


def test_when_the_partition_of_the_copy_leaves_the_outcome_is_void() -> None:
    aside, moved = Aside(), delivery(7)
    aside.moved(moved, TIER)
    aside.left({TIER})
    assert aside.arrived(copy_of(moved)) is None
    assert aside.ended(moved, completed(7)) is None
    assert len(aside) == 0


def test_when_the_partition_of_the_record_leaves_before_the_copy_is_read_the_outcome_is_void() -> None:
    """Its settler may have dropped the move, and then no copy will ever come."""
    aside, moved = Aside(), delivery(7)
    aside.moved(moved, TIER)
    assert aside.ended(moved, completed(7)) is None
    aside.left({P5})
    assert aside.arrived(copy_of(moved)) is None
    assert len(aside) == 0


def test_a_later_attempt_at_the_same_task_is_not_the_copy() -> None:
    aside, moved = Aside(), delivery(7)
    aside.moved(moved, TIER)
    again = replace(copy_of(moved), task=replace(moved.task, attempt=2))
    assert aside.arrived(again) is None


def test_the_copy_under_a_later_assignment_is_another_matter() -> None:
    aside, moved = Aside(), delivery(7)
    aside.moved(moved, TIER)
    assert aside.arrived(copy_of(moved, replace(TIER, epoch=9))) is None
    assert aside.awaits


def test_a_record_at_home_that_holds_back_again_is_moved_again() -> None:
    aside, moved = Aside(), delivery(7)
    aside.moved(moved, TIER)
    first = copy_of(moved)
    aside.arrived(first)
    assert aside.moved(moved, TIER) is first
    second = copy_of(moved, offset=90)
    assert aside.arrived(second) is moved
    settled = aside.ended(moved, completed(7))
    assert isinstance(settled, Completed)
    assert settled.delivery is second


def test_a_process_that_an_attempt_lost_is_counted_on_the_copy_too() -> None:
    aside, moved = Aside(), delivery(7)
    aside.moved(moved, TIER)
    copy = copy_of(moved)
    aside.arrived(copy)
    settled = aside.ended(moved, Dead(replace(moved, losses=1), NOW_MS, NOW_MS, "worker_lost"))
    assert isinstance(settled, Dead)
    assert (settled.delivery.offset, settled.delivery.kept.worker_lost) == (40, 1)


@dataclasses.dataclass
class Attempt:
    """An attempt of the model, and the record that stands for it in Kafka."""

    delivery: Delivery
    record: Delivery
    read: bool = True
    running: bool = True
    lost: bool = False
    source: Assigned = P5


class Moving(RuleBasedStateMachine):
    """Attempts that are moved, end and lose partitions in any order, beside a model of what is unsettled in Kafka.

    An outcome must be one of a record that is unsettled, was read, and whose partition is still ours. At the end each
    record is settled by its attempt, or its partition has left, so that its next owner runs it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.aside = Aside()
        self.attempts: dict[int, Attempt] = {}
        self.epoch = 2
        self.offset = 100
        self.settled: list[int] = []

    @property
    def lane(self) -> Assigned:
        return replace(P5, epoch=self.epoch)

    @property
    def tier(self) -> Assigned:
        return Assigned("shop.retry-1s", 0, self.epoch)

    def pick(self, data: st.DataObject, *, running: bool | None = None, read: bool | None = None) -> int | None:
        fit = [
            number
            for number, each in self.attempts.items()
            if not each.lost
            and (running is None or each.running is running)
            and (read is None or each.read is read)
            and number not in self.settled
        ]
        return data.draw(st.sampled_from(fit)) if fit else None

    @precondition(lambda self: len(self.attempts) < 6)
    @rule()
    def start(self) -> None:
        number = len(self.attempts)
        read = delivery(number, assigned=self.lane, origin=Origin("shop.p5", 0, number))
        self.attempts[number] = Attempt(read, read)

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        number = self.pick(data, running=True, read=True)
        if number is None:
            return
        attempt = self.attempts[number]
        assert self.aside.moved(attempt.delivery, self.tier) is attempt.record
        self.offset += 1
        attempt.source = attempt.record.assigned
        attempt.record, attempt.read = copy_of(attempt.record, self.tier, self.offset), False

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        number = self.pick(data, read=False)
        if number is None:
            return
        attempt = self.attempts[number]
        attempt.read = True
        found = self.aside.arrived(attempt.record)
        if attempt.running:
            assert found is attempt.delivery
        else:
            assert isinstance(found, Completed)
            self.settle(number, found)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from([number for number, each in self.attempts.items() if each.running] or [-1]))
        if number < 0:
            return
        attempt = self.attempts[number]
        attempt.running = False
        outcome = Completed(attempt.delivery, NOW_MS, NOW_MS, b"1")
        settles = self.aside.ended(attempt.delivery, outcome)
        if attempt.lost:
            # What was at home when its partition left has an outcome that the settler drops.
            assert settles is None or attempt.read
        elif attempt.read:
            assert settles is not None
            self.settle(number, settles)
        else:
            assert settles is None

    @rule(which=st.sampled_from(["lane", "tier", "both"]))
    def revoke(self, which: str) -> None:
        leaving = {"lane": {self.lane}, "tier": {self.tier}, "both": {self.lane, self.tier}}[which]
        self.aside.left(leaving)
        self.epoch += 1
        for number, each in self.attempts.items():
            leaves = each.record.assigned in leaving or (not each.read and each.source in leaving)
            each.lost |= leaves and number not in self.settled

    @rule(data=st.data())
    def stranger(self, data: st.DataObject) -> None:
        """A record of another origin, or from elsewhere, stands for nobody."""
        assert self.aside.arrived(delivery(99_999, origin=Origin("shop.p1", 0, 1))) is None
        number = self.pick(data, read=False)
        if number is not None:
            assert self.aside.arrived(replace(self.attempts[number].record, assigned=P5)) is None

    def settle(self, number: int, outcome: Outcome) -> None:
        assert isinstance(outcome, Completed)
        assert number not in self.settled
        assert outcome.delivery is self.attempts[number].record
        assert self.attempts[number].read
        self.settled.append(number)

    @invariant()
    def nothing_is_remembered_for_longer_than_it_matters(self) -> None:
        assert len(self.aside) <= sum(each.running or not each.read for each in self.attempts.values())

    def teardown(self) -> None:
        for number, each in self.attempts.items():
            over = not each.running and each.read
            assert not over or number in self.settled or each.lost


Moving.TestCase.settings = thorough(150, steps=40)
test_every_record_is_settled_once_by_its_attempt_or_left_to_the_next_owner = Moving.TestCase
