"""What operators ask of task types is done with what waits and with what comes: it waits, is killed, or is moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from properties import thorough
from test_feed import P1, P3, TIER, Bench
from worker_parts import NOW_MS, P5, delivery

from fairlane.consumer.config import TIERS_ACCOUNT
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.feed import Feed
from fairlane.consumer.orders import HOLD, Demotion, Fate, Kill, OfType, Orders
from fairlane.consumer.outcome import Cancelled, Dead, Deferred
from fairlane.consumer.standby import Standby
from fairlane.topics.condition import parse

PAUSED = OfType(is_paused=True)
TO_P1 = OfType(demotion=Demotion(Fate("move", "by ann", "shop.p1", 1), frozenset({"shop.p5", "shop.p3"})))
WEIGHTS = {"shop.p5": 16, "shop.p3": 4, "shop.p1": 1}


def obey(bench: Bench, types: Mapping[str, OfType] | None = None, *, lanes: frozenset[str] = frozenset()) -> None:
    types = types or {}
    bench.feed.obey(Orders(lanes=lanes, types=tuple(sorted(types.items()))), WEIGHTS)
    bench.feed.refresh(NOW_MS)


def mails(*offsets: int, assigned: Assigned = P5, **fields: Any) -> list[Delivery]:
    return [delivery(offset, assigned=assigned, lane=assigned.topic, task_type="mail", **fields) for offset in offsets]


def accounts(feed: Feed) -> dict[str, int]:
    return {account: count for account, count in feed.taken.items() if count}


def test_a_paused_type_steps_aside_others_go_on_and_it_goes_on_where_it_was() -> None:
    bench = Bench()
    bench.post(*mails(1), delivery(2), *mails(3))
    obey(bench, {"mail": PAUSED})
    bench.post(*mails(4), delivery(5), *mails(6))
    assert bench.take() == [2, 5]
    assert bench.feed.places.standing_by == 4
    assert bench.taken[0] == 6, "nobody waits for them: to the reader they are taken"
    obey(bench)
    assert bench.taken[0] == 2
    bench.post(*mails(7))
    assert bench.take() == [1, 3, 4, 6, 7]
    assert bench.taken[0] == 7


def test_one_that_holds_a_slot_of_its_type_or_is_not_due_waits_too() -> None:
    bench = Bench(limits={"mail": 1})
    bench.post(*mails(1, 2), *mails(3, not_before_ms=NOW_MS + 50))
    assert bench.take() == [1]
    obey(bench, {"mail": PAUSED})
    bench.feed.done(mails(1)[0], NOW_MS)
    bench.feed.refresh(NOW_MS + 50)
    assert bench.take() == []
    assert bench.feed.places.standing_by == 2
    obey(bench)
    assert bench.take() == [2]


def test_beyond_the_bounds_they_fill_the_buffer_of_their_lane_and_lead_it_when_they_go_on() -> None:
    held = Standby(2, 10**9)
    each = [delivery(offset, assigned=P3 if offset % 2 else P5) for offset in range(5)]
    assert [held.hold(one) for one in each] == [True, True, False, False, False]
    assert held.full_bytes == sum(one.size_bytes for one in each[2:])
    assert held.take_out(lambda one: one.assigned == P5) == ([each[0]], [each[2], each[4]])
    assert held.set_free() == [each[3]]
    assert (list(held), held.full_bytes) == ([each[1], each[3]], 0)


def test_bytes_bound_them_too() -> None:
    held = Standby(100, 500)
    assert [held.hold(one) for one in (delivery(1), delivery(2), delivery(3))] == [True, True, False]


def test_what_stands_by_leaves_with_its_partition() -> None:
    bench = Bench(P5, P3)
    obey(bench, {"mail": PAUSED})
    bench.post(*mails(1, 2), *mails(1, assigned=P3))
    assert bench.revoke(P5).is_set()
    assert bench.taken[0] == 3
    obey(bench)
    assert [(each.assigned, each.offset) for each in bench.feed.take(9)] == [(P3, 1)]
    assert bench.taken[0] == 3


def test_what_holds_its_partition_back_while_it_stands_by_is_found_and_taken_out() -> None:
    bench = Bench()
    obey(bench, {"mail": PAUSED})
    bench.post(*mails(1, 2))
    assert bench.feed.places.find({(P5, 1)}) == {(P5, 1): ("waiting", mails(1)[0])}
    assert bench.feed.withdraw({(P5, 1)}, NOW_MS) == mails(1)
    assert (bench.feed.places.standing_by, bench.taken[0]) == (1, 2)


def test_a_kill_switch_ends_what_fits_it_before_it_starts_and_lets_all_else_run() -> None:
    bench = Bench()
    bench.post(*mails(1, payload=b'{"to":"x"}'), *mails(2, payload=b'{"to":"y"}'))
    kills = (
        Kill(Fate("drop", "by ann: spam"), parse('/to = "x"')),
        Kill(Fate("dlq", "by ann: later"), parse('/to = "z"')),
        Kill(HOLD, parse("/later exists")),
    )
    obey(bench, {"mail": OfType(kills=kills)})
    bench.post(
        *mails(3, payload=b'{"to":"z"}'), *mails(4, payload=b'{"later":1}'), *mails(5, payload=b"{"), delivery(6)
    )
    assert bench.take() == [2, 5, 6]
    dropped, dead = bench.settler.told
    assert dropped == Cancelled(mails(1, payload=b'{"to":"x"}')[0], 0, NOW_MS, "by ann: spam")
    assert isinstance(dead, Dead)
    assert (dead.delivery.offset, dead.reason, dead.error and dead.error.message) == (3, "killed", "by ann: later")
    assert bench.feed.places.standing_by == 1
    assert bench.taken[0] == 6
    assert bench.feed.unstarted.letters == {("mail", "shop.p5", "killed"): 1}
    assert bench.feed.unstarted.dropped == {("mail", "shop.p5"): 1}


def test_a_demoted_type_is_moved_out_of_higher_lanes_and_left_alone_in_others() -> None:
    bench = Bench(P5, P3, P1)
    bench.post(*mails(1), *mails(1, assigned=P1))
    obey(bench, {"mail": TO_P1})
    bench.post(*mails(2, assigned=P3), *mails(2, assigned=P1))
    first, second = bench.settler.told
    assert isinstance(first, Deferred)
    assert isinstance(second, Deferred)
    assert (first.delivery.assigned, second.delivery.assigned) == (P5, P3)
    assert (first.delivery.task.lane, first.delivery.task.priority) == ("shop.p1", 1)
    assert [(each.assigned, each.offset) for each in bench.feed.take(9)] == [(P1, 1), (P1, 2)]
    assert accounts(bench.feed) == {"shop.p5": 1, "shop.p3": 1, "shop.p1": 2}


def test_one_that_comes_from_a_tier_runs_in_the_lower_lane_without_a_hop() -> None:
    bench = Bench(TIER, P5)
    obey(bench, {"mail": TO_P1})
    retried = delivery(1, assigned=TIER, account=TIERS_ACCOUNT, lane="shop.p5", task_type="mail", attempt=2)
    bench.post(retried, *[delivery(offset) for offset in range(2, 20)])
    assert bench.settler.told == []
    assert bench.take()[-3:] == [1, 18, 19], "one of p1 has its turn when p5 had its weight"


def test_types_and_lanes_that_are_paused_wait_for_both() -> None:
    bench = Bench()
    bench.post(*mails(1), delivery(2))
    obey(bench, {"mail": PAUSED}, lanes=frozenset({"shop.p5"}))
    assert bench.take() == []
    obey(bench, lanes=frozenset({"shop.p5"}))
    assert bench.take() == []
    assert bench.feed.places.paused_bytes > 0
    obey(bench, {"mail": PAUSED})
    assert bench.take() == [2]
    obey(bench)
    assert bench.take() == [1]
    assert bench.feed.places.paused_bytes == 0


def test_without_orders_for_types_nothing_looks_at_them() -> None:
    bench = Bench()
    assert bench.feed.places.offer == bench.feed._scheduler.offer
    obey(bench, {"mail": PAUSED})
    assert bench.feed.places.offer != bench.feed._scheduler.offer
    obey(bench)
    assert bench.feed.places.offer == bench.feed._scheduler.offer


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("post"), st.sampled_from(["mail", "sms"]), st.sampled_from([P5, P3, P1])),
            st.tuples(st.just("pause"), st.sampled_from(["mail", "sms"])),
            st.tuples(st.just("resume"), st.sampled_from(["mail", "sms"])),
            st.tuples(st.just("take"), st.integers(1, 4)),
            st.tuples(st.just("revoke"), st.sampled_from([P3, P1])),
        ),
        max_size=40,
    )
)
@thorough(200)
def test_each_task_is_in_one_place_starts_once_in_order_and_leaves_its_account_once(steps: list[Any]) -> None:
    """Against a list of what was posted, whatever is paused and resumed; there is room for three to stand by."""
    bench = Bench(P5, P3, P1)
    bench.feed.places._standby = Standby(3, 10**9)
    waiting: list[Delivery] = []
    paused: dict[str, OfType] = {}
    started = gone = 0
    for number, step in enumerate(steps):
        match step:
            case ("post", kind, assigned):
                (one,) = mails(number, assigned=assigned) if kind == "mail" else [
                    delivery(number, assigned=assigned, lane=assigned.topic, task_type=kind)
                ]  # fmt: skip
                bench.post(one)
                waiting.append(one)
            case ("pause", kind):
                paused[kind] = PAUSED
                obey(bench, paused)
            case ("resume", kind):
                paused.pop(kind, None)
                obey(bench, paused)
            case ("take", most):
                taken = bench.feed.take(most)
                may_run = [each for each in waiting if each.task.type not in paused]
                assert len(taken) == min(most, len(may_run))
                for each in taken:
                    first = next(one for one in may_run if one.task.lane == each.task.lane)
                    if not any(one.task.type != each.task.type for one in may_run):
                        assert each is first
                    assert each in may_run
                    may_run.remove(each)
                    waiting.remove(each)
                started += len(taken)
            case ("revoke", assigned):
                bench.revoke(assigned)
                gone += sum(each.assigned == assigned for each in waiting)
                waiting = [each for each in waiting if each.assigned != assigned]
        held = sum(each.task.type in paused for each in waiting)
        assert bench.feed.places.standing_by == held
        assert bench.feed.waiting == len(waiting) - held
        assert bench.taken[0] == started + gone + min(3, held)
