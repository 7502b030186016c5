"""Back-pressure of the reader: why a partition is paused, and when it is read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_parts import NOW_MS

from fairlane.consumer.flow import Flow, fits_map, has_room_again, limits_by_weight
from fairlane.consumer.turns import Limit
from fairlane.topics.offset_map import MAX_SPAN, MAX_UNFINISHED

LANE, OTHER, TIER = ("p5", 0), ("p3", 0), ("1m", 0)
BYTES_MAX = 1_000


def flow(high: int = 10, low: int = 5) -> Flow:
    """Two lanes and the tiers, each with an account of the same limits."""
    made = Flow({name: Limit(high, low) for name in ("p5", "p3", "tiers")}, BYTES_MAX)
    made.assigned(LANE, "p5")
    made.assigned(OTHER, "p3")
    made.assigned(TIER, "tiers")
    return made


def test_an_account_is_read_until_it_is_full_and_again_when_it_is_down_to_half() -> None:
    f = flow()
    f.handed("p5", 9, 0)
    assert f.update({}, 0) == ([], [])
    f.handed("p5", 1, 0)
    assert f.update({}, 0) == ([LANE], [])
    assert f.update({"p5": 4}, 0) == ([], []), "six are left: pausing throws prefetched records away, so not yet"
    assert f.update({"p5": 5}, 0) == ([], [LANE])
    assert f.update({"p5": 5}, 0) == ([], []), "said once"


def test_a_full_account_does_not_pause_another_one() -> None:
    f = flow()
    f.handed("p5", 50, 0)
    assert f.update({}, 0) == ([LANE], [])
    assert (f.full("p5"), f.full("p3")) == (True, False)


def test_too_many_bytes_pause_everything_until_they_are_down_to_half() -> None:
    f = flow()
    f.handed("p5", 1, BYTES_MAX)
    assert f.update({}, 0) == ([LANE, OTHER, TIER], [])
    assert f.update({}, BYTES_MAX // 2 - 1) == ([], [])
    assert f.update({}, BYTES_MAX // 2) == ([], [LANE, OTHER, TIER])


def test_bytes_of_outcomes_that_wait_to_be_settled_count_too() -> None:
    """Kafka may take outcomes more slowly than handlers make them, or than malformed records are read."""
    f = flow()
    f.handed("p5", 1, BYTES_MAX // 2)
    assert f.update({}, 0, BYTES_MAX // 2) == ([LANE, OTHER, TIER], [])
    assert f.update({}, 0, 0) == ([], [LANE, OTHER, TIER])


def test_each_reason_holds_a_partition_on_its_own() -> None:
    f = flow()
    f.wait(TIER, NOW_MS + 1_000)
    f.overfull(TIER)
    f.handed("tiers", 10, 0)
    assert f.update({}, 0) == ([TIER], [])
    f.relieve([TIER], NOW_MS)
    assert f.update({}, 0) == ([], []), "its account is full and its head is not due"
    f.relieve([], NOW_MS + 1_000)
    assert f.update({}, 0) == ([], []), "its account is full"
    assert f.update({"tiers": 10}, 0) == ([], [TIER])


def test_other_weights_let_lanes_be_read_as_far_ahead_as_those_allow() -> None:
    weights = {"p5": 3, "p1": 1}
    f = Flow(limits_by_weight(weights, 400), 10**9, weights, 400)
    f.assigned(("p1", 0), "p1")
    f.came(("p1", 0), 150)
    f.handed("p1", 150, 150)
    assert f.update({}, 0) == ([("p1", 0)], []), "it has a quarter of 400"
    f.weigh({"p5": 1, "p1": 1})
    assert not f.full("p5")
    assert f.update({"p1": 110}, 110) == ([], [("p1", 0)]), "half of 400 now, and it is down to a quarter of that"
    f.came(("p1", 0), 100)
    f.handed("p1", 100, 100)
    assert f.update({"p1": 110}, 110) == ([], [])


def test_what_an_operator_pauses_is_not_read_whatever_else_holds_it_or_comes_and_goes() -> None:
    f = flow()
    f.hold(frozenset({"p5", "tiers"}))
    assert f.update({}, 0) == ([LANE, TIER], [])
    assert not f.held_back, "nothing that a finished task could resume"
    assert f.assigned(("p5", 1), "p5"), "a partition that comes starts paused"
    f.wait(TIER, NOW_MS)
    f.hold(frozenset())
    assert f.update({}, 0) == ([], [LANE, ("p5", 1)])
    f.relieve((), NOW_MS)
    assert f.update({}, 0) == ([], [TIER])


def test_a_tier_is_read_again_when_its_head_is_due() -> None:
    f = flow()
    f.wait(TIER, NOW_MS + 1_000)
    assert f.next_due_ms == NOW_MS + 1_000
    f.relieve([], NOW_MS + 999)
    assert not f.may_take(TIER)
    f.relieve([], NOW_MS + 1_000)
    assert f.may_take(TIER)
    assert f.next_due_ms is None


def test_what_is_held_back_in_memory_may_be_taken_although_the_account_is_full() -> None:
    """It is here already; only what would leave the bounds of the map or is not due must wait."""
    f = flow()
    f.handed("p5", 10, 0)
    f.update({}, 0)
    assert f.may_take(LANE)
    f.overfull(LANE)
    assert not f.may_take(LANE)


def test_the_first_of_several_waiting_tiers_says_when_to_look_again() -> None:
    f = flow()
    f.assigned(("2h", 0), "tiers")
    f.wait(("2h", 0), NOW_MS + 9_000)
    f.wait(TIER, NOW_MS + 1_000)
    assert f.next_due_ms == NOW_MS + 1_000


def test_only_what_a_finished_task_may_resume_is_a_reason_to_look_soon() -> None:
    f = flow()
    f.wait(TIER, NOW_MS + 1_000)
    f.update({}, 0)
    assert not f.held_back
    f.overfull(LANE)
    assert f.held_back


def test_a_partition_starts_paused_exactly_if_its_account_is_full_or_bytes_are() -> None:
    f = flow()
    f.handed("p5", 10, 0)
    f.update({}, 0)
    assert f.assigned(("p5", 1), "p5")
    assert not f.assigned(("p3", 1), "p3")
    f.handed("p5", 0, BYTES_MAX)
    f.update({}, 0)
    assert f.assigned(("p3", 2), "p3")


def test_a_partition_that_comes_back_forgets_why_it_was_paused() -> None:
    f = flow()
    f.wait(TIER, NOW_MS + 9_000)
    f.overfull(TIER)
    assert f.update({}, 0) == ([TIER], [])
    f.gone(TIER)
    assert not f.assigned(TIER, "tiers")
    assert f.may_take(TIER)
    assert f.next_due_ms is None


def test_relief_for_a_partition_that_left_is_nothing() -> None:
    f = flow()
    f.gone(LANE)
    f.relieve([LANE], NOW_MS)
    assert f.update({}, 0) == ([], [])


def test_accounts_share_the_records_out_by_weight_each_at_least_sixteen() -> None:
    limits = limits_by_weight({"p5": 16, "p4": 8, "p3": 4, "p2": 2, "p1": 1}, 3_100)
    assert {name: limit.high for name, limit in limits.items()} == {
        "p5": 1600,
        "p4": 800,
        "p3": 400,
        "p2": 200,
        "p1": 100,
    }
    assert limits_by_weight({"heavy": 99, "light": 1}, 100)["light"] == Limit(16, 4)


@pytest.mark.parametrize(
    ("outstanding", "span", "fits"),
    [
        (MAX_UNFINISHED, MAX_SPAN * 10, True),  # few enough, however far apart
        (MAX_UNFINISHED * 5, MAX_SPAN, True),  # near enough, however many
        (MAX_UNFINISHED + 1, MAX_SPAN + 1, False),  # neither
    ],
)
def test_a_map_fits_inside_either_of_its_bounds(outstanding: int, span: int, fits: bool) -> None:
    assert fits_map(outstanding, span) is fits


@given(st.integers(0, 3_000), st.integers(0, 60_000))
def test_what_has_room_again_fits_with_room_to_spare(outstanding: int, span: int) -> None:
    if has_room_again(outstanding, span):
        assert fits_map(2 * outstanding, 2 * span)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("handed"), st.sampled_from(["p5", "p3", "tiers"]), st.integers(0, 12)),
            st.tuples(st.just("taken"), st.sampled_from(["p5", "p3", "tiers"]), st.integers(0, 12)),
            st.tuples(st.just("overfull"), st.sampled_from([LANE, OTHER]), st.just(0)),
            st.tuples(st.just("relieve"), st.sampled_from([LANE, OTHER]), st.just(0)),
        ),
        max_size=40,
    )
)
def test_a_partition_is_paused_exactly_while_it_has_a_reason(
    steps: list[tuple[str, str | tuple[str, int], int]],
) -> None:
    f = flow()
    taken = {"p5": 0, "p3": 0, "tiers": 0}
    paused: set[tuple[str, int]] = set()
    for step, what, count in steps:
        if isinstance(what, str):
            if step == "handed":
                f.handed(what, count, 0)
            else:
                taken[what] += count
        elif step == "overfull":
            f.overfull(what)
        else:
            f.relieve([what], NOW_MS)
        pause, resume = f.update(taken, 0)
        assert paused.isdisjoint(pause), "paused twice"
        assert paused.issuperset(resume), "resumed what was not paused"
        paused = (paused | set(pause)) - set(resume)
        for partition, account in ((LANE, "p5"), (OTHER, "p3"), (TIER, "tiers")):
            assert (partition in paused) == (f.full(account) or not f.may_take(partition))


def ahead_of_its_share() -> Flow:
    """Two lanes of weights 4 and 1, of which the light one was read too far, and is paused."""
    f = Flow({name: Limit(1_000, 500) for name in ("p5", "p3")}, 1 << 30, {"p5": 4, "p3": 1}, window=50)
    f.assigned(LANE, "p5")
    f.assigned(OTHER, "p3")
    f.came(LANE, 160)
    f.came(OTHER, 160)
    assert f.update({}, 0) == ([OTHER], [])
    return f


def test_lanes_are_read_in_proportion_to_their_weights_while_both_have_more() -> None:
    f = ahead_of_its_share()
    assert f.held_back, "so the reader looks again soon"
    f.came(LANE, 480)
    assert f.update({}, 0) == ([], [OTHER])


@pytest.mark.parametrize("has_left", [False, True])
def test_nobody_waits_for_a_partition_that_was_read_to_its_end_or_left(has_left: bool) -> None:
    f = ahead_of_its_share()
    if has_left:
        f.gone(LANE)
    else:
        f.reached_end(LANE)
    assert f.update({}, 0) == ([], [OTHER])
