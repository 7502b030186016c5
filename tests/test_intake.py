"""The intake: what a batch of one partition means, and what the settler hears of it, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from confluent_kafka import Message
from kafka_client_fakes import FakeMessage, message
from worker_parts import NOW_MS, P5, config

from fairlane.consumer.config import TIERS_ACCOUNT
from fairlane.consumer.delivery import Assigned, Delivery, Unreadable
from fairlane.consumer.flow import Flow
from fairlane.consumer.intake import HEADERS_BYTES, Intake
from fairlane.consumer.ledger import Progress
from fairlane.consumer.outcome import Deferred, Malformed
from fairlane.consumer.positions import Position
from fairlane.consumer.tiers import NAP_MS
from fairlane.consumer.to_settler import Delivered, Opened, ReachedEnd
from fairlane.consumer.turns import Limit
from fairlane.topics.names import Lane, Tier
from fairlane.topics.offset_map import MAX_SPAN, MAX_UNFINISHED, OffsetMap

SECOND = Assigned("shop.retry-1s", 0, 2)
MINUTE = Assigned("shop.retry-1m", 0, 3)


class Listener:
    """Stands where the settler does: notes what it is told, and says how far it is."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.progress: dict[Assigned, Progress] = {}

    def post(self, *messages: Any) -> None:
        self.told.extend(messages)


class Bench:
    """An intake of partitions that begin at 0."""

    def __init__(self, *assigned: Assigned, position: Position | None = None, **settings: Any) -> None:
        made = config(**settings)
        accounts = [lane.topic for lane in made.lanes] + [TIERS_ACCOUNT]
        self.flow = Flow(dict.fromkeys(accounts, Limit(100_000, 50_000)), 1 << 30)
        self.listener = Listener()
        self.intake = Intake(made, self.flow, cast("Any", self.listener))
        for each in assigned or (P5,):
            self.intake.opened(each, position or Position(0, 0, None))
        self.listener.told.clear()

    def take(self, *messages: Message, assigned: Assigned = P5, now_ms: int = NOW_MS) -> list[Delivery]:
        return self.intake.take(assigned, list(messages), now_ms)

    @property
    def told(self) -> list[Any]:
        return self.listener.told


def due(
    offset: int, in_ms: int, *, appended_ms: int = NOW_MS, lane: bytes = b"shop.p5", level: bytes = b"5"
) -> Message:
    """A record of a task that is due in so many milliseconds."""
    headers = (
        ("fairlane-lane", lane),
        ("fairlane-priority", level),
        ("fairlane-not-before-ms", b"%d" % (NOW_MS + in_ms)),
    )
    return message(offset, headers=headers, timestamp_ms=appended_ms)


def offsets(deliveries: Sequence[Delivery]) -> list[int]:
    return [each.offset for each in deliveries]


def test_a_record_is_delivered_as_the_task_that_it_is() -> None:
    bench = Bench()
    (delivery,) = bench.take(message(4, b'{"type": "send", "payload": [1], "id": "a"}', key=b"k"))
    assert (delivery.task.id, delivery.task.type, delivery.task.payload) == ("a", "send", b"[1]")
    assert (delivery.task.lane, delivery.task.priority) == ("shop.p5", 5)
    assert (delivery.assigned, delivery.offset, delivery.account) == (P5, 4, "shop.p5")
    assert delivery.size_bytes == len(b'{"type": "send", "payload": [1], "id": "a"}') + 1 + HEADERS_BYTES


def test_the_settler_hears_of_a_partition_and_where_its_log_ends() -> None:
    bench = Bench()
    found = OffsetMap(3, 5, (3,), clean=True)
    bench.intake.opened(MINUTE, Position(3, 9, found))
    assert bench.told == [Opened(MINUTE, 3, 9, found)]


def test_the_settler_hears_of_records_before_anybody_can_have_an_outcome_for_them() -> None:
    bench = Bench()
    bench.take(message(0), message(1, b"no json"), message(2))
    told, malformed = bench.told
    assert told == Delivered(P5, [0, 1, 2])
    assert isinstance(malformed, Malformed)


def test_what_the_last_owners_map_calls_finished_is_skipped() -> None:
    bench = Bench(position=Position(0, 9, OffsetMap(0, 5, (0, 3))))
    assert offsets(bench.take(*[message(offset) for offset in range(8)])) == [0, 3, 6, 7]
    assert bench.told == [Delivered(P5, [0, 3, 6, 7])]


def test_a_tombstone_is_no_task_and_no_dead_letter() -> None:
    bench = Bench()
    assert offsets(bench.take(message(0, None), message(1))) == [1]
    assert bench.told == [Delivered(P5, [1])]
    assert bench.intake.tombstones == 1


@pytest.mark.parametrize("value", [b"", b"no json", b"{}", b'{"type": ""}', b"\xff\xfe"])
def test_a_record_that_is_no_task_is_settled_at_once_byte_for_byte(value: bytes) -> None:
    bench = Bench()
    assert bench.take(message(0, value, key=b"k", headers=(("x", None),))) == []
    (_, malformed) = bench.told
    assert malformed.delivery == Unreadable(P5, 0, b"k", value, (("x", None),))
    assert malformed.problem


def test_a_record_whose_headers_the_client_cannot_read_is_malformed_too() -> None:
    class Unreadable(FakeMessage):
        def headers(self) -> Any:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    bench = Bench()
    assert bench.take(cast("Message", Unreadable(0))) == []
    assert isinstance(bench.told[1], Malformed)


def test_losses_that_only_the_map_knows_go_with_the_delivery() -> None:
    bench = Bench(position=Position(0, 9, OffsetMap(0, -1, (), {1: 2})))
    first, second = bench.take(message(0), message(1))
    assert (first.losses, second.losses) == (0, 2)
    assert second.kept.worker_lost == 2


def test_a_task_in_a_lane_that_is_due_soon_waits_in_memory() -> None:
    bench = Bench()
    assert offsets(bench.take(due(0, 4_999))) == [0]


def test_a_task_in_a_lane_that_is_due_later_moves_on_to_a_tier() -> None:
    bench = Bench()
    assert bench.take(due(0, 5_000)) == []
    assert bench.told[0] == Delivered(P5, [0])
    assert isinstance(bench.told[1], Deferred)


def test_a_tier_whose_head_is_not_due_is_held_and_paused_until_it_is() -> None:
    bench = Bench(MINUTE)
    first, second = due(0, 60_000), due(1, 120_000, appended_ms=NOW_MS + 60_000)
    assert bench.take(first, second, assigned=MINUTE) == []
    assert bench.told == [], "neither is delivered yet, so neither can be passed over"
    assert bench.flow.next_due_ms == NOW_MS + 59_000, "a second ahead: the rest is exact, in memory"
    assert bench.intake.holding() == []
    bench.flow.relieve([], NOW_MS + 59_000)
    assert bench.intake.holding() == [MINUTE]
    assert offsets(bench.take(assigned=MINUTE, now_ms=NOW_MS + 59_000)) == [0]
    assert bench.told == [Delivered(MINUTE, [0])]
    assert bench.flow.next_due_ms == NOW_MS + 119_000, "the second is the head now"


def test_what_is_held_comes_before_what_is_read_later() -> None:
    bench = Bench(MINUTE)
    bench.take(due(0, 60_000), assigned=MINUTE)
    late = NOW_MS + 70_000
    assert offsets(bench.take(due(1, 61_000), assigned=MINUTE, now_ms=late)) == [0, 1]
    assert bench.told == [Delivered(MINUTE, [0, 1])]


TIGHT: dict[str, Any] = {"buffer_bytes": 4 * 800}
"""Room for two of the records that these tests hold."""


def test_what_would_be_too_much_to_hold_is_read_again_when_its_time_has_come() -> None:
    bench = Bench(MINUTE, **TIGHT)
    batch = [due(offset, 60_000) for offset in range(4, 9)]
    assert bench.take(*batch, assigned=MINUTE) == []
    assert bench.intake.held_bytes == 0
    assert bench.flow.next_due_ms == NOW_MS + 59_500, "half of what it is early by, so that it is not read for each"
    # Whatever else comes before it is read again would be taken twice.
    bench.intake.reached_end(MINUTE, 9, NOW_MS)
    assert bench.take(due(9, 0), assigned=MINUTE) == []
    assert bench.told == []
    assert bench.intake.read_again() == [(("shop.retry-1m", 0), 4)]
    assert bench.intake.read_again() == []
    bench.flow.relieve([], NOW_MS + 59_500)
    assert bench.intake.holding() == []
    assert offsets(bench.take(*batch, assigned=MINUTE, now_ms=NOW_MS + 59_500)) == [4, 5, 6, 7, 8]
    bench.intake.reached_end(MINUTE, 9, NOW_MS)
    assert bench.told == [Delivered(MINUTE, [4, 5, 6, 7, 8]), ReachedEnd(MINUTE, 9)]


def test_the_end_behind_what_was_held_is_not_told_when_that_is_to_be_read_again() -> None:
    bench = Bench(MINUTE, **TIGHT)
    bench.take(due(0, 60_000), assigned=MINUTE)
    bench.intake.reached_end(MINUTE, 1, NOW_MS)
    bench.take(*[due(offset, 60_000) for offset in range(1, 5)], assigned=MINUTE)
    assert bench.intake.read_again() == [(("shop.retry-1m", 0), 0)]
    assert bench.told == []


def test_what_is_held_is_bounded_over_all_partitions_and_free_again_when_they_leave() -> None:
    hour = Assigned("shop.retry-2h", 0, 4)
    bench = Bench(MINUTE, hour, **TIGHT)
    bench.take(due(0, 60_000), due(1, 60_000), assigned=MINUTE)
    held_bytes = bench.intake.held_bytes
    assert held_bytes > 2 * HEADERS_BYTES
    bench.take(due(0, 7_200_000), assigned=hour)
    assert [partition for partition, _ in bench.intake.read_again()] == [hour.key]
    bench.intake.gone([MINUTE])
    assert bench.intake.held_bytes == 0
    bench.take(due(0, 7_200_000), assigned=hour)
    assert (bench.intake.holding(), bench.intake.read_again()) == ([], [])
    assert 0 < bench.intake.held_bytes < held_bytes


def test_the_smallest_tier_is_read_through_and_its_tasks_wait_in_memory() -> None:
    bench = Bench(SECOND)
    assert offsets(bench.take(due(0, 4_000), due(1, 500), assigned=SECOND)) == [0, 1]
    assert all(each.account == TIERS_ACCOUNT for each in bench.take(due(2, 1), assigned=SECOND))


def test_a_task_that_left_its_tier_before_it_is_due_hops_on() -> None:
    bench = Bench(MINUTE)
    assert bench.take(due(0, 3_600_000, appended_ms=NOW_MS - 60_000), assigned=MINUTE) == []
    assert isinstance(bench.told[1], Deferred)


def test_with_one_tier_only_every_delay_waits_in_memory() -> None:
    bench = Bench(SECOND, tiers=(Tier.parse("1s"),))
    assert offsets(bench.take(due(0, 3_600_000), assigned=SECOND)) == [0]


def test_a_task_from_a_tier_runs_at_the_priority_of_its_own_lane() -> None:
    (delivery,) = Bench(SECOND).take(due(0, 0, lane=b"shop.p2", level=b"2"), assigned=SECOND)
    assert (delivery.task.lane, delivery.task.priority) == ("shop.p2", 2)


def test_a_task_whose_lane_this_worker_does_not_read_runs_in_the_nearest_one() -> None:
    lanes = (Lane("shop.p5", 5, 1), Lane("shop.p1", 1, 1))
    (delivery,) = Bench(SECOND, lanes=lanes).take(due(0, 0, lane=b"shop.p3", level=b"3"), assigned=SECOND)
    assert (delivery.task.lane, delivery.task.priority) == ("shop.p1", 1)


def test_a_record_of_a_foreign_lane_is_a_task_of_its_default_type() -> None:
    orders = Assigned("orders", 0, 4)
    bench = Bench(orders, lanes=(Lane("orders", 3, 1, default_type="bill"),))
    (delivery,) = bench.take(message(0, b"<xml/>"), assigned=orders)
    assert (delivery.task.type, delivery.task.payload, delivery.task.lane) == ("bill", b"<xml/>", "orders")


def fill(bench: Bench, count: int, *, start: int = 0) -> int:
    """Take so many records; returns how many were delivered."""
    return len(bench.take(*[message(start + offset) for offset in range(count)]))


def test_a_partition_is_paused_before_its_map_would_leave_both_bounds() -> None:
    """More unfinished than fit, over a span longer than fits: the map that is committed would have to be cut."""
    bench = Bench()
    assert fill(bench, MAX_UNFINISHED) == MAX_UNFINISHED
    assert offsets(bench.take(message(MAX_SPAN), message(MAX_SPAN + 1))) == [MAX_SPAN]
    assert bench.told[-1] == Delivered(P5, [MAX_SPAN])
    assert not bench.flow.may_take(P5.key)


def test_what_did_not_fit_is_taken_when_there_is_room_again() -> None:
    bench = Bench()
    fill(bench, MAX_UNFINISHED)
    bench.take(message(MAX_SPAN + 1))
    assert bench.intake.relieved({P5: Progress(0, MAX_UNFINISHED // 2 - 1)}) == [], "half of it, not one"
    progress = {P5: Progress(0, MAX_UNFINISHED // 2)}
    bench.listener.progress = progress
    relieved = bench.intake.relieved(progress)
    assert relieved == [P5.key]
    bench.flow.relieve(relieved, NOW_MS)
    assert bench.intake.holding() == [P5]
    assert offsets(bench.take()) == [MAX_SPAN + 1]


def test_what_the_map_restored_as_unfinished_counts_once() -> None:
    """Counted at the beginning and again when it is read, it would pause a partition for tasks that are long done."""
    unfinished = tuple(range(0, 2 * MAX_UNFINISHED, 2))
    bench = Bench(position=Position(0, 9, OffsetMap(0, 2 * MAX_UNFINISHED, unfinished)))
    assert fill(bench, 2 * MAX_UNFINISHED) == MAX_UNFINISHED
    bench.listener.progress = {P5: Progress(0, MAX_UNFINISHED - 1)}
    assert offsets(bench.take(message(MAX_SPAN + 1))) == [MAX_SPAN + 1]


def test_the_end_of_a_partition_is_told_when_nothing_before_it_is_held() -> None:
    bench = Bench(MINUTE)
    bench.take(due(0, 60_000), assigned=MINUTE)
    bench.intake.reached_end(MINUTE, 1, NOW_MS)
    assert bench.told == []
    bench.take(assigned=MINUTE, now_ms=NOW_MS + 60_000)
    assert bench.told == [Delivered(MINUTE, [0]), ReachedEnd(MINUTE, 1)]


def test_a_larger_tier_that_was_read_to_its_end_is_left_alone_and_looked_at_again_with_all_others() -> None:
    second, hour = Assigned("shop.retry-1s", 0, 4), Assigned("shop.retry-2h", 0, 5)
    bench = Bench(MINUTE, second, hour)
    now_ms = NOW_MS - NOW_MS % NAP_MS + 300
    for assigned in (second, MINUTE):
        bench.intake.reached_end(assigned, 0, now_ms)
    bench.intake.reached_end(hour, 0, now_ms + 900)
    pause, _ = bench.flow.update({}, 0)
    assert set(pause) == {MINUTE.key, hour.key}, "the smallest tier is always followed"
    assert bench.flow.next_due_ms == now_ms - 300 + NAP_MS
    bench.flow.relieve([], now_ms - 300 + NAP_MS)
    _, resume = bench.flow.update({}, 0)
    assert set(resume) == {MINUTE.key, hour.key}


def test_the_end_of_a_partition_that_left_is_nobodys() -> None:
    bench = Bench()
    bench.intake.gone([P5])
    bench.intake.reached_end(P5, 9, NOW_MS)
    bench.intake.reached_end(None, 9, NOW_MS)
    assert bench.told == []


def test_a_worker_is_caught_up_when_every_lane_is_read_to_the_end_that_it_had() -> None:
    """Until then it would start p1 before it has seen that there is a p5."""
    bench = Bench()
    p1 = Assigned("shop.p1", 0, 7)
    bench.intake.opened(p1, Position(0, 5, None))
    bench.intake.opened(MINUTE, Position(0, 5, None))
    assert not bench.intake.caught_up
    bench.intake.reached_end(p1, 6, NOW_MS)
    assert bench.intake.caught_up, "tiers are not waited for"


def test_a_worker_is_caught_up_when_it_has_read_as_far_ahead_as_it_may() -> None:
    bench = Bench(position=Position(0, 10, None))
    bench.flow.handed("shop.p5", 100_000, 0)
    assert not bench.intake.caught_up
    bench.flow.update({}, 0)
    assert bench.intake.caught_up


def test_a_worker_without_partitions_is_not_caught_up() -> None:
    bench = Bench()
    bench.intake.gone([P5])
    assert not bench.intake.caught_up


def test_a_partition_that_left_leaves_nothing_behind() -> None:
    bench = Bench(MINUTE)
    bench.take(due(0, 60_000), assigned=MINUTE)
    bench.intake.gone([MINUTE])
    assert (bench.intake.partitions, bench.intake.holding(), bench.flow.next_due_ms) == ([], [], None)
    assert bench.intake.positions() == {}


def test_only_what_is_handed_on_counts_as_held_by_the_feed() -> None:
    """Malformed and deferred records wait with the settler, which counts them itself."""
    bench = Bench()
    handed: list[tuple[str, int, int]] = []
    bench.flow.handed = lambda *said: handed.append(said)  # type: ignore[method-assign]
    bench.take(message(0), message(1, b"no json"), due(2, 60_000))
    (told,) = handed
    assert told[:2] == ("shop.p5", 1)
    assert told[2] < 2 * HEADERS_BYTES
