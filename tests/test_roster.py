"""Who works, and what heartbeats add up to."""

from __future__ import annotations

import pytest

from fairlane.monitor.roster import LOST_SHOWN_MS, Roster
from fairlane.monitor.stats import PoolStats
from fairlane.topics.events import Counters, Heartbeat, Pool, RunningTask, TypeTimes

NOW_MS = 1_760_000_000_000


def beat(worker: str = "w", age_ms: int = 0, **fields: object) -> Heartbeat:
    made: dict[str, object] = {"worker": worker, "at_ms": NOW_MS - age_ms, "started_ms": NOW_MS - 600_000, **fields}
    return Heartbeat(**made)  # type: ignore[arg-type]


def roster(*beats: Heartbeat) -> Roster:
    made = Roster()
    for each in beats:
        made.add(each)
    return made


@pytest.mark.parametrize(
    ("last", "alive", "known"),
    [
        (beat(), 1, 1),
        (beat(age_ms=5_000), 1, 1),  # just in time
        (beat(age_ms=5_001), 0, 1),  # lost, and shown as such
        (beat(age_ms=-60_000), 1, 1),  # a clock ahead of ours
        (beat(state="draining"), 1, 1),
        (beat(state="stopped"), 0, 0),  # it said goodbye: nobody is missing
        (beat(age_ms=LOST_SHOWN_MS + 1), 0, 0),  # history
    ],
)
def test_a_worker_is_alive_lost_or_gone(last: Heartbeat, alive: int, known: int) -> None:
    found = roster(last)
    assert (len(found.alive(NOW_MS)), len(found.workers(NOW_MS))) == (alive, known)


def test_the_newest_heartbeat_counts() -> None:
    found = roster(beat(running=3, age_ms=1_000), beat(running=1))
    assert [each.running for each in found.alive(NOW_MS)] == [1]


def test_totals_keep_what_an_earlier_start_of_a_worker_counted() -> None:
    found = roster(
        beat(counters=Counters(10, 1, 2), started_ms=1),
        beat(counters=Counters(12, 1, 2), started_ms=1),
        beat(counters=Counters(5, 0, 1), started_ms=2),
        beat("other", state="stopped", counters=Counters(100, 0, 0)),
    )
    assert found.totals() == Counters(117, 1, 3)


def test_weights_are_those_of_the_worker_that_was_started_last() -> None:
    found = roster(beat("new", started_ms=2, weights={"p5": 9}), beat("old", started_ms=1, weights={"p5": 16, "p1": 1}))
    assert found.weights() == {"p5": 9, "p1": 1}


def test_a_tombstone_takes_a_worker_away() -> None:
    found = roster(beat(counters=Counters(10)))
    found.forget("w")
    assert (found.totals(), found.workers(NOW_MS)) == (Counters(), ())


def test_a_rate_is_over_the_last_ten_seconds() -> None:
    found = roster(
        beat(age_ms=30_000, counters=Counters(0)),
        beat(age_ms=10_000, counters=Counters(1_000)),
        beat(age_ms=5_000, counters=Counters(1_050)),
        beat(counters=Counters(1_100)),
    )
    assert found.rates(NOW_MS).completed_per_s == 10.0


def test_a_young_worker_has_counted_since_it_started() -> None:
    assert roster(beat(started_ms=NOW_MS - 4_000, counters=Counters(8))).rates(NOW_MS).completed_per_s == 2.0


def test_a_restart_makes_no_negative_rate() -> None:
    found = roster(beat(age_ms=2_000, counters=Counters(1_000)), beat(started_ms=NOW_MS - 1_000, counters=Counters(4)))
    assert found.rates(NOW_MS).completed_per_s == 4.0


def test_a_lost_worker_does_nothing_a_second() -> None:
    found = roster(beat(age_ms=8_000, counters=Counters(10)), beat(age_ms=6_000, counters=Counters(30)))
    assert found.rates(NOW_MS).completed_per_s == 0
    assert found.workers(NOW_MS)[0].per_s == 0


def test_utilisation_is_weighted_by_slots() -> None:
    found = roster(beat("a", utilisation=1.0, concurrency=30), beat("b", utilisation=0.0, concurrency=10))
    assert found.utilisation(NOW_MS) == 0.75
    assert Roster().utilisation(NOW_MS) == 0


def test_times_of_a_type_are_weighted_by_how_often_it_ran() -> None:
    found = roster(
        beat("a", types={"email": TypeTimes(30, 10.0, 20.0), "rare": TypeTimes(1, 1.0, 1.0)}),
        beat("b", types={"email": TypeTimes(10, 50.0, 60.0), "idle": TypeTimes(0, 9.0, 9.0)}),
    )
    assert [(one.type, one.n, one.mean_ms, one.p95_ms) for one in found.types(NOW_MS)] == [
        ("email", 40, 20.0, 30.0),
        ("rare", 1, 1.0, 1.0),
    ]


def test_the_limits_of_a_type_that_adapts_are_added_up_over_the_workers_alive() -> None:
    times = {"email": TypeTimes(3, 10.0, 20.0), "fixed": TypeTimes(1, 1.0, 1.0)}
    found = roster(
        beat("a", types=times, limits={"email": 12}),
        beat("b", types=times, limits={"email": 30}),
        beat("c", state="stopped", types=times, limits={"email": 500}),
    )
    assert {one.type: one.limit for one in found.types(NOW_MS)} == {"email": 42, "fixed": 0}


def test_a_pool_is_what_its_workers_were_told_last() -> None:
    before = Pool("vm", 1, 1, 4)
    grown = Pool("vm", 2, 1, 4, "1 to 2 processes: 97% busy", NOW_MS - 3_000)
    found = roster(
        beat("vm-0", pool=grown), beat("vm-1", pool=before), beat("other"), beat("gone", 60_000, pool=before)
    )
    assert found.pools(NOW_MS) == (
        PoolStats(name="vm", processes=2, least=1, most=4, reason="1 to 2 processes: 97% busy", age_ms=3_000),
    )
    assert roster(beat("vm-0", pool=before)).pools(NOW_MS)[0].age_ms == 0


def test_times_of_the_last_workers_are_kept_when_all_have_stopped() -> None:
    found = roster(beat(state="stopped", types={"email": TypeTimes(5, 7.0, 8.0)}))
    assert [one.mean_ms for one in found.types(NOW_MS)] == [7.0]


def test_running_tasks_are_those_of_workers_alive_the_longest_first() -> None:
    def task(name: str, age_ms: int) -> RunningTask:
        return RunningTask(name, "email", NOW_MS - age_ms, "q.p3/0", 1)

    found = roster(
        beat("a", running_tasks=(task("short", 600), task("long", 60_000))),
        beat("dead", age_ms=20_000, running_tasks=(task("gone", 90_000),)),
    )
    assert [(one.task.id, one.age_ms) for one in found.running(NOW_MS)] == [("long", 60_000), ("short", 600)]
