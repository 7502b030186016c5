"""The feed: what is ready to run, in which order, and what becomes of it when its partition leaves."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from msgspec.structs import replace
from span_recorder import Recorder as Spans
from span_recorder import as_text, error_type, install
from worker_parts import NOW_MS, P5, config, delivery

from fairlane.consumer.config import TIERS_ACCOUNT
from fairlane.consumer.delivery import Assigned, Delivery
from fairlane.consumer.feed import Feed
from fairlane.consumer.handlers import Handler
from fairlane.consumer.outcome import Completed, Dead
from fairlane.consumer.to_settler import RecordLosses
from fairlane.topics.offset_map import OffsetMap
from fairlane.topics.payload import Signature
from fairlane.topics.task import Origin

P3 = Assigned("shop.p3", 0, 2)
P1 = Assigned("shop.p1", 0, 3)
TIER = Assigned("shop.retry-1s", 0, 4)


class Recorder:
    """Stands where the settler does."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def post(self, *messages: Any) -> None:
        self.told.extend(messages)


class Bench:
    """A feed driven by the test; what it takes over was left in good order and is announced, unless it says else."""

    def __init__(self, *assigned: Assigned, begun: bool = True, limits: dict[str, int] | None = None) -> None:
        async def handle() -> None: ...

        handlers = {
            kind: Handler(kind, handle, Signature.of(handle), concurrency=limit)
            for kind, limit in (limits or {}).items()
        }
        self.settler = Recorder()
        self.woken = 0
        self.feed = Feed(config(), handlers, cast("Any", self.settler), self._wake)
        for each in assigned or (P5,):
            self.take_over(each)
        self.record()
        if begun:
            self.feed.begin()

    def _wake(self) -> None:
        self.woken += 1

    def take_over(self, assigned: Assigned, restored: OffsetMap | None = None, end: int = 0) -> None:
        self.feed.take_over(assigned, restored, end)
        self.feed.refresh(NOW_MS)

    def record(self, now_ms: int = NOW_MS) -> list[RecordLosses]:
        """Let the settler commit what it was told to; returns what that was."""
        asked = [told for told in self.settler.told if isinstance(told, RecordLosses)]
        self.settler.told = [told for told in self.settler.told if not isinstance(told, RecordLosses)]
        for each in asked:
            each.done()
        self.feed.refresh(now_ms)
        return asked

    def post(self, *deliveries: Delivery, now_ms: int = NOW_MS) -> None:
        self.feed.post(deliveries)
        self.feed.refresh(now_ms)

    def take(self, limit: int = 100) -> list[int]:
        return [each.offset for each in self.feed.take(limit)]

    def revoke(self, *assigned: Assigned) -> threading.Event:
        """Revoke as the reader does, without its wait; returns the event that it would wait for."""
        self.feed.revoke(assigned, 0)
        quiet: threading.Event = self.feed._inbox[-1].quiet  # type: ignore[union-attr]
        self.feed.refresh(NOW_MS)
        return quiet

    @property
    def taken(self) -> tuple[int, int]:
        """Records and bytes that left the buffers, all together."""
        return sum(self.feed.taken.values()), self.feed.taken_bytes


def test_what_was_read_is_woken_for_and_starts() -> None:
    bench = Bench()
    before = bench.woken
    bench.post(delivery(1), delivery(2))
    assert bench.woken == before + 1
    assert bench.take() == [1, 2]
    assert bench.feed.running == 2


def test_the_most_urgent_lane_goes_first() -> None:
    bench = Bench(P1, P3, P5)
    bench.post(delivery(1, assigned=P1, lane="shop.p1"), delivery(3, assigned=P3, lane="shop.p3"), delivery(5))
    assert bench.take() == [5, 3, 1]


def test_only_as_many_start_as_there_is_room_for() -> None:
    bench = Bench()
    bench.post(delivery(1), delivery(2), delivery(3))
    assert bench.take(2) == [1, 2]
    assert bench.take(0) == []
    assert bench.feed.waiting == 1


def test_a_fresh_worker_starts_nothing_before_it_has_seen_all_its_lanes() -> None:
    bench = Bench(begun=False)
    bench.post(delivery(1))
    assert bench.take() == []
    bench.feed.begin_when(caught_up=False)
    bench.feed.refresh(NOW_MS)
    assert bench.take() == []
    bench.feed.begin_when(caught_up=True)
    bench.feed.refresh(NOW_MS)
    assert bench.take() == [1]


def test_a_fresh_worker_starts_nothing_before_all_that_it_took_over_is_announced() -> None:
    bench = Bench(P1, begun=False)
    bench.post(delivery(1, assigned=P1, lane="shop.p1"))
    bench.take_over(P5)
    bench.post(delivery(5))
    bench.feed.begin_when(caught_up=True)
    bench.feed.refresh(NOW_MS)
    assert bench.take() == []
    bench.record()
    assert bench.take() == [5, 1]


def test_a_partition_that_leaves_before_it_is_announced_holds_nobody_up() -> None:
    bench = Bench(P1, begun=False)
    bench.post(delivery(1, assigned=P1, lane="shop.p1"))
    bench.take_over(P5)
    bench.revoke(P5)
    bench.feed.begin_when(caught_up=True)
    bench.feed.refresh(NOW_MS)
    assert bench.take() == [1]


def test_a_fresh_worker_waits_for_its_lanes_so_long_at_most_counted_from_its_first_partition() -> None:
    bench = Bench(begun=False)
    wait_ms = round(config().start_wait_s * 1000)
    bench.post(delivery(1), now_ms=NOW_MS + wait_ms - 1)
    assert bench.take() == []
    assert bench.feed.next_due_ms == NOW_MS + wait_ms
    bench.feed.refresh(NOW_MS + wait_ms)
    assert bench.take() == [1]
    assert bench.feed.next_due_ms is None


def test_joining_the_group_may_take_longer_than_the_wait_for_the_lanes() -> None:
    feed = Feed(config(), {}, cast("Any", Recorder()), lambda: None)
    feed.refresh(NOW_MS)
    late_ms = NOW_MS + 60_000
    feed.take_over(P5, None, 0)
    feed.refresh(late_ms)
    assert feed.next_due_ms == late_ms + round(config().start_wait_s * 1000)


def test_a_type_at_its_limit_steps_aside_until_one_of_it_is_done() -> None:
    bench = Bench(limits={"narrow": 1})
    narrow, next_narrow, wide = delivery(1, task_type="narrow"), delivery(2, task_type="narrow"), delivery(3)
    bench.post(narrow, next_narrow, wide)
    assert bench.take() == [1, 3]
    bench.feed.done(narrow, NOW_MS)
    assert bench.take() == [2]


def test_the_oldest_is_the_oldest_of_those_that_are_next_since_they_were_enqueued_or_due() -> None:
    bench = Bench(P5, P1, limits={"report": 1})
    assert bench.feed.places.oldest_ms(NOW_MS) == 0
    bench.post(delivery(1, enqueued_ms=NOW_MS - 100), delivery(2, enqueued_ms=NOW_MS - 5_000))
    assert bench.feed.places.oldest_ms(NOW_MS) == 100
    low = {"assigned": P1, "lane": "shop.p1"}
    # Enqueued long ago, to be run later: it has waited since then.
    bench.post(delivery(3, enqueued_ms=NOW_MS - 90_000, not_before_ms=NOW_MS - 700, **low))  # type: ignore[arg-type]
    assert bench.feed.places.oldest_ms(NOW_MS) == 700
    bench.take()
    # The second report steps aside: its own limit holds it back, not the want of processes.
    bench.post(*[delivery(10 + number, task_type="report", enqueued_ms=NOW_MS - 60_000) for number in range(2)])
    assert bench.take() == [10]
    assert bench.feed.places.oldest_ms(NOW_MS) == 0
    bench.post(delivery(12, enqueued_ms=NOW_MS + 5_000))
    assert bench.feed.places.oldest_ms(NOW_MS) == 0, "a producer whose clock is ahead"
    bench.take()
    bench.post(delivery(13))
    assert bench.feed.places.oldest_ms(NOW_MS) == 0, "a record without a time"


def test_a_task_that_is_not_due_waits_for_its_time() -> None:
    bench = Bench()
    bench.post(delivery(1, not_before_ms=NOW_MS + 500))
    assert (bench.take(), bench.feed.delayed, bench.feed.next_due_ms) == ([], 1, NOW_MS + 500)
    bench.feed.refresh(NOW_MS + 499)
    assert bench.take() == []
    bench.feed.refresh(NOW_MS + 500)
    assert (bench.take(), bench.feed.delayed, bench.feed.next_due_ms) == ([1], 0, None)


def test_each_record_leaves_its_account_once_when_it_starts() -> None:
    bench = Bench()
    waiting = delivery(1, not_before_ms=NOW_MS + 500, account=TIERS_ACCOUNT)
    bench.post(waiting, delivery(2))
    assert bench.taken == (0, 0)
    bench.take()
    assert (bench.feed.taken["shop.p5"], bench.feed.taken[TIERS_ACCOUNT]) == (1, 0), "a delayed one is still held"
    bench.feed.refresh(NOW_MS + 500)
    bench.take()
    assert bench.feed.taken[TIERS_ACCOUNT] == 1
    bench.feed.done(waiting, NOW_MS)
    assert bench.taken == (2, waiting.size_bytes + delivery(2).size_bytes)


def test_nothing_of_a_revoked_partition_starts_wherever_it_waits() -> None:
    """In its lane, at its type's limit, for its time, as a suspect: each left its account once."""
    bench = Bench(P5, P3, limits={"narrow": 1})
    bench.take_over(P1, OffsetMap(0, -1, clean=False), end=9)
    running = delivery(1, task_type="narrow")
    stays = delivery(7, assigned=P3, lane="shop.p3")
    bench.post(
        running,
        delivery(2, task_type="narrow"),
        delivery(3, not_before_ms=NOW_MS + 500),
        stays,
        delivery(4, assigned=P1, lane="shop.p1"),
    )
    assert bench.take(1) == [1]
    bench.post(delivery(5))
    quiet = bench.revoke(P5, P1)
    assert bench.take() == [7]
    assert bench.feed.delayed == 0
    assert not quiet.is_set(), "one of them runs"
    bench.feed.done(running, NOW_MS)
    assert quiet.is_set()
    assert bench.taken[0] == 6
    bench.feed.done(stays, NOW_MS)
    assert bench.feed.running == 0


def test_a_partition_of_which_nothing_runs_is_quiet_at_once() -> None:
    bench = Bench()
    bench.post(delivery(1))
    assert bench.revoke(P5).is_set()


def test_a_revocation_waits_only_for_what_it_revokes() -> None:
    bench = Bench(P5, P3)
    other = delivery(7, assigned=P3, lane="shop.p3")
    bench.post(other)
    bench.take()
    assert bench.revoke(P5).is_set()


def test_two_revocations_are_quiet_each_in_its_own_time() -> None:
    bench = Bench(P5, P3)
    first, second = delivery(1), delivery(7, assigned=P3, lane="shop.p3")
    bench.post(first, second)
    bench.take()
    quiet_first, quiet_second = bench.revoke(P5), bench.revoke(P3)
    bench.feed.done(second, NOW_MS)
    assert (quiet_first.is_set(), quiet_second.is_set()) == (False, True)
    bench.feed.done(first, NOW_MS)
    assert quiet_first.is_set()


def test_a_partition_that_comes_back_does_not_wait_for_what_ran_under_its_old_epoch() -> None:
    bench = Bench()
    old = delivery(1)
    bench.post(old)
    bench.take()
    bench.revoke(P5)
    again = Assigned("shop.p5", 0, 9)
    bench.take_over(again)
    bench.record()
    bench.post(delivery(1, assigned=again))
    assert bench.take() == [1]
    assert not bench.revoke(again).is_set()
    bench.feed.done(delivery(1, assigned=again), NOW_MS)
    bench.feed.done(old, NOW_MS)
    assert bench.feed.running == 0


def test_revoking_nothing_is_quiet_without_a_driver() -> None:
    assert Bench().feed.revoke([], 1.0)


def test_a_revocation_waits_no_longer_than_its_grace() -> None:
    bench = Bench()
    bench.post(delivery(1))
    bench.take()
    assert not bench.feed.revoke([P5], 0.01)


def test_a_revocation_ends_when_the_driver_lets_go() -> None:
    bench = Bench()
    bench.post(delivery(1))
    bench.take()

    def drive() -> None:
        bench.feed.refresh(NOW_MS)
        bench.feed.done(delivery(1), NOW_MS)

    driver = threading.Timer(0.05, drive)
    driver.start()
    assert bench.feed.revoke([P5], 10)
    driver.join(60)


# Suspects: what a worker that died may have died of.


def test_nothing_of_a_partition_runs_before_kafka_knows_that_its_owner_is_at_work() -> None:
    """Else the next owner would take a sudden death for an orderly departure."""
    bench = Bench()
    bench.take_over(P3)
    bench.post(delivery(7, assigned=P3, lane="shop.p3"))
    assert bench.take() == []
    (asked,) = bench.record()
    assert (asked.assigned, asked.losses) == (P3, {})
    assert bench.take() == [7]


def test_a_suspect_runs_only_after_its_loss_is_recorded() -> None:
    bench = Bench()
    bench.take_over(P3, OffsetMap(0, -1, clean=False), end=8)
    bench.post(delivery(7, assigned=P3, lane="shop.p3"), delivery(8, assigned=P3, lane="shop.p3"))
    assert bench.take() == [8], "what came after the death is no suspect"
    (asked,) = bench.record()
    assert asked.losses == {7: 1}
    assert bench.take() == [7]


def test_a_suspect_that_was_delayed_keeps_its_time() -> None:
    bench = Bench()
    bench.take_over(P3, OffsetMap(0, -1, clean=False), end=8)
    bench.post(delivery(7, assigned=P3, lane="shop.p3", not_before_ms=NOW_MS + 500))
    bench.record()
    assert (bench.take(), bench.feed.delayed) == ([], 1)


def test_a_suspect_that_would_be_lost_once_too_often_is_dead_without_a_start() -> None:
    bench = Bench()
    bench.take_over(P3, OffsetMap(0, -1, (), {7: 2}, clean=False), end=8)
    bench.post(delivery(7, assigned=P3, lane="shop.p3", losses=2))
    assert bench.take() == []
    (dead,) = bench.settler.told
    assert isinstance(dead, Dead)
    assert (dead.reason, dead.delivery.offset) == ("worker_lost", 7)
    assert dead.error is not None
    assert "3 workers died" in dead.error.message
    assert bench.taken[0] == 1, "it left its account"


def test_three_workers_die_of_a_killer_and_the_fourth_buries_it() -> None:
    """The default of `worker_lost_max`, from one owner to the next, each with the map that the last one committed."""
    known: OffsetMap | None = None
    deaths = 0
    while True:
        bench = Bench(P5)
        bench.take_over(P3, known, end=8)
        if known is None:
            bench.record()
        bench.post(delivery(7, assigned=P3, lane="shop.p3", losses=known.losses.get(7, 0) if known else 0))
        losses = dict(known.losses) if known else {}
        for asked in bench.record():
            losses |= dict(asked.losses)
        if bench.take() != [7]:
            break
        deaths += 1
        known = OffsetMap(0, -1, (), losses, clean=False)
    assert deaths == 3
    assert [told.reason for told in bench.settler.told if isinstance(told, Dead)] == ["worker_lost"]


def test_a_commit_that_comes_after_its_partition_left_starts_nothing() -> None:
    bench = Bench()
    bench.take_over(P3)
    bench.post(delivery(7, assigned=P3, lane="shop.p3"))
    bench.revoke(P3)
    bench.record()
    assert bench.take() == []


def away(bench: Bench, offset: int = 7) -> Delivery:
    """A task that runs and whose record was moved to the tier."""
    bench.post(delivery(offset, origin=Origin("shop.p5", 0, offset)))
    (started,) = bench.feed.take(1)
    freed = bench.feed.aside.moved(started, TIER)
    bench.feed.done(freed, NOW_MS, goes_on=True)
    return started


def copy_of(moved: Delivery, offset: int = 40) -> Delivery:
    return replace(moved, assigned=TIER, offset=offset, account=TIERS_ACCOUNT)


def test_the_copy_of_a_record_that_was_moved_is_not_started_but_stands_for_the_attempt() -> None:
    bench = Bench(P5, TIER, limits={"send": 1})
    moved = away(bench)
    copy = copy_of(moved)
    bench.post(copy, delivery(8))
    assert bench.take() == [], "the attempt goes on, so the one place of its type is taken"
    assert bench.feed.aside.home(moved) is copy
    assert not bench.revoke(TIER).is_set(), "and a partition that leaves waits for it"
    bench.feed.done(copy, NOW_MS)
    assert bench.take() == [8]


def test_the_partition_that_a_record_was_moved_from_does_not_wait_for_its_attempt() -> None:
    bench = Bench(P5, TIER)
    away(bench)
    assert bench.revoke(P5).is_set()


def test_the_outcome_of_an_attempt_that_ended_meanwhile_settles_the_copy_when_it_is_read() -> None:
    bench = Bench(P5, TIER)
    moved = away(bench)
    before = bench.taken
    outcome = Completed(moved, NOW_MS, NOW_MS, b"null")
    assert bench.feed.aside.ended(moved, outcome) is None
    bench.feed.ended_away(moved)
    copy = copy_of(moved)
    bench.post(copy)
    assert bench.settler.told == [replace(outcome, delivery=copy)]
    assert (bench.take(), bench.feed.running) == ([], 0)
    assert bench.taken[0] == before[0] + 1, "it takes no place in the buffers any more"


def test_what_holds_back_is_found_wherever_it_waits_and_taken_out_where_it_may_be() -> None:
    bench = Bench(P5, TIER, limits={"one": 1})
    bench.take_over(P3, OffsetMap(0, -1, (), {}, clean=False), end=8)
    bench.post(delivery(1, task_type="one"), delivery(2, task_type="one"))
    assert bench.take() == [1]
    bench.post(delivery(3, assigned=TIER, account=TIERS_ACCOUNT, not_before_ms=NOW_MS + 60_000))
    bench.post(delivery(4, assigned=P3, lane="shop.p3"))
    wanted = {(P5, 2), (TIER, 3), (P3, 4), (P5, 99)}
    found = bench.feed.places.find(wanted)
    assert {place: state for place, (state, _) in found.items()} == {
        (P5, 2): "waiting",
        (TIER, 3): "delayed",
        (P3, 4): "suspect",
    }
    assert [bench.feed.may_move(*place) for place in ((P5, 2), (TIER, 3), (P3, 4))] == [True, True, False]
    gone = bench.feed.withdraw({(P5, 2), (TIER, 3)}, NOW_MS)
    assert sorted(each.offset for each in gone) == [2, 3]
    assert bench.feed.places.find({(P5, 2), (TIER, 3)}) == {}
    assert (bench.feed.waiting, bench.feed.delayed) == (0, 0)
    bench.feed.done(delivery(1, task_type="one"), NOW_MS)
    assert bench.take() == []


def test_nothing_is_moved_out_of_a_partition_that_is_about_to_leave() -> None:
    bench = Bench(P5)
    bench.post(delivery(1), delivery(2))
    bench.feed.take(1)
    bench.revoke(P5)
    assert not bench.feed.may_move(P5, 1)


def test_a_task_that_is_dead_of_its_workers_has_a_span_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = install(monkeypatch, Spans())
    bench = Bench()
    bench.take_over(P3, OffsetMap(0, -1, (), {7: 2}, clean=False), end=8)
    bench.post(delivery(7, assigned=P3, lane="shop.p3", losses=2))
    (lost,) = bench.settler.told
    span = sdk.one("process shop.p3")
    assert (error_type(span), lost.traceparent) == ("WorkerLost", as_text(span.context))
    assert lost.delivery.task.traceparent == lost.traceparent
