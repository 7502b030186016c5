"""What a worker has done lately: counters, times, utilisation."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from worker_parts import NOW_MS, delivery

from fairlane.consumer.meter import BATCH_SIZES, KINDS_MAX, OTHER, SAMPLES_MAX, WINDOW_MS, Exemplar, Meter
from fairlane.consumer.outcome import Completed, Dead, Expired, HandedBack, Outcome, Retrying
from fairlane.topics.events import Counters, ErrorInfo


def completed(took_ms: int = 10, *, ended_ms: int = NOW_MS, kind: str = "send") -> Completed:
    return Completed(delivery(task_type=kind), ended_ms - took_ms, ended_ms, b"null")


def retrying(*, attempt: int) -> Retrying:
    read = delivery()
    return Retrying(read, NOW_MS - 10, NOW_MS, msgspec.structs.replace(read.task, attempt=attempt), None)  # type: ignore[arg-type]


def dead(reason: Any) -> Dead:
    return Dead(delivery(), NOW_MS - 10, NOW_MS, reason)


def run(meter: Meter, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        meter.started(NOW_MS - 10)
        meter.ended(outcome, NOW_MS)


def test_attempts_are_counted_by_how_they_ended() -> None:
    meter = Meter(10, {"send"})
    run(meter, completed(), completed(), retrying(attempt=2), dead("fatal"), Expired(delivery(), NOW_MS))
    assert meter.counters == Counters(completed=2, failed=2, retried=1)


def test_what_was_handed_back_has_not_ended() -> None:
    meter = Meter(10, {"send"})
    run(meter, HandedBack(delivery(), NOW_MS))
    assert meter.counters == Counters()
    assert meter.utilisation(NOW_MS + 1_000) == pytest.approx(10 / 1_010 / 10)


def test_utilisation_is_the_busy_share_of_the_slots_since_it_was_last_asked() -> None:
    meter = Meter(4, {"send"})
    meter.started(NOW_MS)
    meter.started(NOW_MS)
    assert meter.utilisation(NOW_MS + 1_000) == 0.5
    meter.ended(completed(), NOW_MS + 1_500)
    assert meter.utilisation(NOW_MS + 2_000) == pytest.approx((2 * 500 + 500) / 4_000)
    assert meter.utilisation(NOW_MS + 3_000) == 0.25


def test_a_batch_is_busy_in_one_slot_and_each_of_its_tasks_counts() -> None:
    meter = Meter(4, {"send"})
    meter.started(NOW_MS)
    meter.batch_started("send", 3)
    assert meter.utilisation(NOW_MS + 1_000) == 0.25
    meter.batch_ended([completed(), completed(), retrying(attempt=2)], NOW_MS + 1_500)
    assert meter.utilisation(NOW_MS + 2_000) == 0.125
    assert meter.utilisation(NOW_MS + 3_000) == 0
    assert meter.counters == Counters(completed=2, retried=1)
    (batched,) = meter.batched.values()
    assert batched.tasks == 3
    assert [bucket for bucket, count in enumerate(batched.sizes) if count] == [BATCH_SIZES.index(5)]


def test_utilisation_of_no_time_is_none() -> None:
    meter = Meter(1, {"send"})
    meter.started(NOW_MS)
    assert meter.utilisation(NOW_MS) == 0.0


def test_cpu_is_the_part_of_a_core_that_was_used_since_it_was_last_asked() -> None:
    meter = Meter(4, ())
    assert meter.cpu(7.0, NOW_MS) == 0.0
    assert meter.cpu(7.5, NOW_MS + 1_000) == 0.5
    assert meter.cpu(8.7, NOW_MS + 2_000) == pytest.approx(1.2)
    assert meter.cpu(9.0, NOW_MS + 1_000) == 0.0, "a clock that was set back"


def test_a_clock_that_is_set_back_shows_no_less_than_nothing() -> None:
    meter = Meter(1, {"send"})
    meter.started(NOW_MS)
    for moment_ms in (NOW_MS - 60_000, NOW_MS - 59_000):
        assert 0.0 <= meter.utilisation(moment_ms) <= 1.0


def test_times_of_a_type_are_those_of_the_last_minute() -> None:
    meter = Meter(10, {"send"})
    run(meter, completed(900, ended_ms=NOW_MS - WINDOW_MS - 1), completed(10), completed(30))
    times = meter.types(NOW_MS)["send"]
    assert (times.n, times.mean_ms, times.p95_ms) == (2, 20.0, 30.0)


def test_a_type_that_did_not_run_lately_is_not_listed() -> None:
    meter = Meter(10, {"send"})
    run(meter, completed())
    assert meter.types(NOW_MS + WINDOW_MS + 1) == {}


def test_the_95th_percentile_is_what_all_but_a_twentieth_stay_below() -> None:
    meter = Meter(10, {"send"})
    run(meter, *[completed(took) for took in range(1, 101)])
    assert meter.types(NOW_MS)["send"].p95_ms == 96.0


def test_memory_is_bounded_however_many_attempts_there_are() -> None:
    meter = Meter(10, {"send"})
    run(meter, *[completed() for _ in range(SAMPLES_MAX * 3)])
    assert meter.types(NOW_MS)["send"].n == SAMPLES_MAX


@pytest.mark.parametrize(
    "outcome",
    [
        dead("no_handler"),  # anybody can send tasks of types that nobody knows, each of another one
        dead("invalid_payload"),
        retrying(attempt=1),  # the same attempt again: no handler ran
        Expired(delivery(), NOW_MS),
        HandedBack(delivery(), NOW_MS),
    ],
)
def test_what_no_handler_ran_for_has_no_processing_time(outcome: Outcome) -> None:
    meter = Meter(10, {"send"})
    run(meter, outcome)
    assert meter.types(NOW_MS) == {}


@pytest.mark.parametrize("outcome", [completed(), retrying(attempt=2), dead("fatal"), dead("max_attempts")])
def test_whatever_a_handler_ran_for_has_one(outcome: Outcome) -> None:
    meter = Meter(10, {"send"})
    run(meter, outcome)
    assert meter.types(NOW_MS)["send"].mean_ms == 10.0


def test_attempts_are_told_apart_by_type_and_lane_and_by_what_went_wrong() -> None:
    meter = Meter(10, {"send"})
    failed = Dead(delivery(), NOW_MS - 10, NOW_MS, "max_attempts", ErrorInfo("KeyError", "x"))
    run(meter, completed(), failed, dead("rejected"), Expired(delivery(), NOW_MS), HandedBack(delivery(), NOW_MS))
    run(meter, Completed(delivery(lane="shop.p1"), NOW_MS, NOW_MS, b"null"))
    assert meter.tallies[("send", "shop.p1")].completed == 1
    tally = meter.tallies[("send", "shop.p5")]
    assert (tally.completed, tally.rejected, tally.expired, tally.handed_back) == (1, 1, 1, 1)
    assert tally.failed == {"KeyError": 1}
    assert tally.letters == {"max_attempts": 1, "rejected": 1, "expired": 1}


def test_types_that_nobody_here_has_a_handler_for_are_counted_as_one() -> None:
    """Anybody can send tasks of any type: each would be a series of its own for ever."""
    meter = Meter(10, {"send"})
    for number in range(100):
        unknown = delivery(task_type=f"t-{number}")
        run(meter, Dead(unknown, NOW_MS, NOW_MS, "no_handler", ErrorInfo("NoHandler", "")))
    assert list(meter.tallies) == [(OTHER, "shop.p5")]
    assert meter.tallies[(OTHER, "shop.p5")].failed == {"NoHandler": 100}


def test_errors_are_told_apart_by_class_up_to_a_bound() -> None:
    meter = Meter(10, {"send"})
    for number in range(KINDS_MAX * 2):
        run(meter, Dead(delivery(), NOW_MS, NOW_MS, "fatal", ErrorInfo(f"E{number}", "")))
    (tally,) = meter.tallies.values()
    assert len(tally.failed) == KINDS_MAX + 1
    assert tally.failed[OTHER] == KINDS_MAX


@pytest.mark.parametrize(
    ("took_ms", "bucket"), [(0, 0), (5, 0), (6, 1), (1_000, 7), (1_001, 8), (1_800_000, 14), (10**9, 15)]
)
def test_a_bucket_holds_what_took_no_longer_than_its_bound(took_ms: int, bucket: int) -> None:
    meter = Meter(10, {"send"})
    run(meter, completed(took_ms))
    (tally,) = meter.tallies.values()
    assert tally.took.index(1) == bucket
    assert (sum(tally.took), tally.took_ms) == (1, took_ms)


@pytest.mark.parametrize(
    ("fields", "waited_ms"),
    [
        ({"enqueued_ms": NOW_MS - 300}, 290),
        ({"enqueued_ms": NOW_MS - 300, "not_before_ms": NOW_MS - 50}, 40),  # a delay that was asked for is no wait
        ({"enqueued_ms": NOW_MS + 5_000}, 0),  # the producer's clock is ahead
    ],
)
def test_a_wait_begins_when_the_task_is_due(fields: Any, waited_ms: int) -> None:
    meter = Meter(10, {"send"})
    run(meter, Completed(delivery(**fields), NOW_MS - 10, NOW_MS, b"null"))
    (tally,) = meter.tallies.values()
    assert (sum(tally.waited), tally.waited_ms) == (1, waited_ms)


def test_a_bucket_keeps_the_newest_trace_of_its_own() -> None:
    meter = Meter(10, {"send"})
    run(meter, msgspec.structs.replace(completed(10), traceparent="old"), completed(10))
    run(meter, msgspec.structs.replace(completed(9), traceparent="new"))
    (tally,) = meter.tallies.values()
    assert tally.exemplars == {1: Exemplar("new", 9, NOW_MS)}
