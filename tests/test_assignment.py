"""Which partitions are held, and what a lease of them is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.consumer.assignment import NO_LEASE, Assignment
from fairlane.consumer.delivery import Assigned

P5, P3 = ("shop.p5", 0), ("shop.p3", 0)


def test_every_assignment_has_an_epoch_of_its_own() -> None:
    assignment = Assignment()
    first = assignment.assign([P5, P3])
    again = assignment.assign([P5])
    assert len({each.epoch for each in (*first, *again)}) == 3


def test_nothing_is_held_before_the_first_assignment() -> None:
    assert NO_LEASE.epochs == {}
    assert not NO_LEASE.holds(Assigned("shop.p5", 0, 0))


def test_a_lease_holds_what_was_assigned_under_its_epoch_and_nothing_else() -> None:
    assignment = Assignment()
    (p5,) = assignment.assign([P5])
    lease = assignment.lease("metadata")
    assert lease.holds(p5)
    assert not lease.holds(Assigned("shop.p5", 0, p5.epoch + 1))
    assert not lease.holds(Assigned("shop.p5", 1, p5.epoch))


def test_a_lease_stays_as_it_was_when_the_assignment_goes_on() -> None:
    assignment = Assignment()
    (p5,) = assignment.assign([P5])
    before = assignment.lease("old metadata")
    assignment.gone([P5])
    assignment.assign([P3])
    after = assignment.lease("new metadata")
    assert before.holds(p5)
    assert (before.metadata, after.metadata) == ("old metadata", "new metadata")
    assert not after.holds(p5)


def test_a_lease_cannot_be_changed_by_who_reads_it() -> None:
    assignment = Assignment()
    assignment.assign([P5])
    epochs: Any = assignment.lease("metadata").epochs
    with pytest.raises(TypeError):
        epochs[P5] = 99


def test_a_later_lease_has_a_higher_number_even_where_nothing_changed() -> None:
    assignment = Assignment()
    numbers = [assignment.lease(None).number for _ in range(3)]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > NO_LEASE.number


def test_a_closing_partition_is_settled_but_takes_no_new_record() -> None:
    assignment = Assignment()
    (p5,) = assignment.assign([P5])
    assert assignment.close([P5]) == [p5]
    assert assignment.get(*P5) is None
    assert assignment.held == []
    assert assignment.lease(None).holds(p5)


def test_a_partition_that_is_gone_is_in_no_later_lease() -> None:
    assignment = Assignment()
    p5, p3 = assignment.assign([P5, P3])
    assignment.close([P5])
    assert assignment.gone([P5, P3]) == [p5, p3]
    lease = assignment.lease(None)
    assert not lease.holds(p5)
    assert not lease.holds(p3)


def test_what_is_not_held_can_be_closed_and_be_gone_without_effect() -> None:
    assignment = Assignment()
    assert assignment.close([P5]) == []
    assert assignment.gone([P5]) == []


def test_a_partition_that_comes_back_while_it_closes_starts_anew() -> None:
    assignment = Assignment()
    (first,) = assignment.assign([P5])
    assignment.close([P5])
    (second,) = assignment.assign([P5])
    lease = assignment.lease(None)
    assert lease.holds(second)
    assert not lease.holds(first)
    assert assignment.get(*P5) == second


STEPS = st.lists(st.tuples(st.sampled_from(["assign", "close", "gone"]), st.sampled_from([P5, P3])), max_size=30)


@given(STEPS)
def test_a_lease_holds_exactly_the_newest_epoch_of_what_is_not_gone(steps: list[tuple[str, tuple[str, int]]]) -> None:
    assignment = Assignment()
    model: dict[tuple[str, int], Assigned] = {}
    seen: list[Assigned] = []
    for step, partition in steps:
        if step == "assign":
            (model[partition],) = assignment.assign([partition])
            seen.append(model[partition])
        elif step == "close":
            assignment.close([partition])
        else:
            assignment.gone([partition])
            model.pop(partition, None)
        lease = assignment.lease(None)
        assert {each for each in seen if lease.holds(each)} == set(model.values())
    assert len({each.epoch for each in seen}) == len(seen)
