"""What a worker has done lately: counters, times, utilisation."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from worker_parts import NOW_MS, delivery

from fairlane.consumer.meter import SAMPLES_MAX, WINDOW_MS, Meter
from fairlane.consumer.outcome import Completed, Dead, Expired, HandedBack, Outcome, Retrying
from fairlane.topics.events import Counters


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
    meter = Meter(10)
    run(meter, completed(), completed(), retrying(attempt=2), dead("fatal"), Expired(delivery(), NOW_MS))
    assert meter.counters == Counters(completed=2, failed=2, retried=1)


def test_what_was_handed_back_has_not_ended() -> None:
    meter = Meter(10)
    run(meter, HandedBack(delivery(), NOW_MS))
    assert meter.counters == Counters()
    assert meter.utilisation(NOW_MS + 1_000) == pytest.approx(10 / 1_010 / 10)


def test_utilisation_is_the_busy_share_of_the_slots_since_it_was_last_asked() -> None:
    meter = Meter(4)
    meter.started(NOW_MS)
    meter.started(NOW_MS)
    assert meter.utilisation(NOW_MS + 1_000) == 0.5
    meter.ended(completed(), NOW_MS + 1_500)
    assert meter.utilisation(NOW_MS + 2_000) == pytest.approx((2 * 500 + 500) / 4_000)
    assert meter.utilisation(NOW_MS + 3_000) == 0.25


def test_utilisation_of_no_time_is_none() -> None:
    meter = Meter(1)
    meter.started(NOW_MS)
    assert meter.utilisation(NOW_MS) == 0.0


def test_a_clock_that_is_set_back_shows_no_less_than_nothing() -> None:
    meter = Meter(1)
    meter.started(NOW_MS)
    for moment_ms in (NOW_MS - 60_000, NOW_MS - 59_000):
        assert 0.0 <= meter.utilisation(moment_ms) <= 1.0


def test_times_of_a_type_are_those_of_the_last_minute() -> None:
    meter = Meter(10)
    run(meter, completed(900, ended_ms=NOW_MS - WINDOW_MS - 1), completed(10), completed(30))
    times = meter.types(NOW_MS)["send"]
    assert (times.n, times.mean_ms, times.p95_ms) == (2, 20.0, 30.0)


def test_a_type_that_did_not_run_lately_is_not_listed() -> None:
    meter = Meter(10)
    run(meter, completed())
    assert meter.types(NOW_MS + WINDOW_MS + 1) == {}


def test_the_95th_percentile_is_what_all_but_a_twentieth_stay_below() -> None:
    meter = Meter(10)
    run(meter, *[completed(took) for took in range(1, 101)])
    assert meter.types(NOW_MS)["send"].p95_ms == 96.0


def test_memory_is_bounded_however_many_attempts_there_are() -> None:
    meter = Meter(10)
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
    meter = Meter(10)
    run(meter, outcome)
    assert meter.types(NOW_MS) == {}


@pytest.mark.parametrize("outcome", [completed(), retrying(attempt=2), dead("fatal"), dead("max_attempts")])
def test_whatever_a_handler_ran_for_has_one(outcome: Outcome) -> None:
    meter = Meter(10)
    run(meter, outcome)
    assert meter.types(NOW_MS)["send"].mean_ms == 10.0
