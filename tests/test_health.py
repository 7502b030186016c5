"""Health: how a worker is, and what that says to whoever may restart it or wait for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.consumer import health
from fairlane.consumer.health import ASSIGN_S, BEAT_S, LIVE_S, POLL_S, SETTLE_S, Check, Facts, live, ready, report

NOW_S = 1_000.0
WELL = Facts(
    state="running",
    asked_s=None,
    polled_s=NOW_S - 0.1,
    backlog=0,
    settled_s=NOW_S - 0.1,
    held=12,
    held_since_s=NOW_S - 60,
    beat_s=NOW_S - 1,
)


def failed(checks: tuple[Check, ...]) -> set[str]:
    return {check.name for check in checks if not check.ok}


def test_a_worker_that_works_is_alive_and_ready() -> None:
    assert failed(live(WELL, NOW_S)) == failed(ready(WELL, 1.0, NOW_S)) == set()


@pytest.mark.parametrize(
    ("facts", "not_live", "not_ready"),
    [
        # The loop: late is not blocked; blocked is not ready; for long is not alive.
        ({"asked_s": NOW_S - 0.9}, set(), set()),
        ({"asked_s": NOW_S - 1.0}, set(), {"event_loop"}),
        ({"asked_s": NOW_S - LIVE_S}, {"event_loop"}, {"event_loop"}),
        # The reader: likewise.
        ({"polled_s": NOW_S - POLL_S + 0.1}, set(), set()),
        ({"polled_s": NOW_S - POLL_S}, set(), {"reader"}),
        ({"polled_s": NOW_S - LIVE_S}, {"reader"}, {"reader"}),
        # The settler: who has nothing to settle need not; it is never a reason to restart.
        ({"settled_s": NOW_S - 3_600}, set(), set()),
        ({"backlog": 9, "settled_s": NOW_S - SETTLE_S + 0.1}, set(), set()),
        ({"backlog": 9, "settled_s": NOW_S - SETTLE_S}, set(), {"settler"}),
        ({"backlog": 9, "settled_s": NOW_S - 3_600}, set(), {"settler"}),
        # Partitions: none yet is too early; none for long, while Kafka answers, is a reason.
        ({"held": 0, "held_since_s": NOW_S - 1}, set(), {"partitions"}),
        ({"held": 0, "held_since_s": NOW_S - ASSIGN_S}, set(), set()),
        ({"held": 0, "held_since_s": NOW_S - 60, "beat_s": NOW_S - BEAT_S}, set(), {"partitions"}),
        ({"held": 0, "held_since_s": NOW_S - 60, "beat_s": None}, set(), {"partitions"}),
        # Kafka away: what is held is still ours as far as we know.
        ({"beat_s": NOW_S - 3_600}, set(), set()),
        # Its life: who starts or ends is alive and not ready.
        ({"state": "starting", "polled_s": None, "held": 0}, set(), {"state", "partitions"}),
        ({"state": "draining"}, set(), {"state"}),
        ({"state": "stopped"}, set(), {"state"}),
        ({"state": "running", "polled_s": None, "held": 0}, {"reader"}, {"reader", "partitions"}),
    ],
)
def test_what_is_wrong_is_named(facts: dict[str, object], not_live: set[str], not_ready: set[str]) -> None:
    found = replace(WELL, **facts)  # type: ignore[arg-type]
    assert failed(live(found, NOW_S)) == not_live
    assert failed(ready(found, 1.0, NOW_S)) == not_ready


@given(
    beat_s=st.none() | st.floats(0, NOW_S),
    backlog=st.integers(0, 10_000),
    settled_s=st.floats(0, NOW_S),
    held=st.integers(0, 100),
)
def test_whatever_kafka_does_is_no_reason_to_restart(
    beat_s: float | None, backlog: int, settled_s: float, held: int
) -> None:
    facts = replace(WELL, beat_s=beat_s, backlog=backlog, settled_s=settled_s, held=held)
    assert not failed(live(facts, NOW_S))


def test_a_report_names_every_check_with_its_age_and_limit() -> None:
    told = report(ready(replace(WELL, asked_s=NOW_S - 4), 1.0, NOW_S))
    assert told["status"] == "failed"
    assert [check["name"] for check in told["checks"]] == ["state", "event_loop", "reader", "settler", "partitions"]
    loop = told["checks"][1]
    assert (loop["ok"], loop["age_s"], loop["limit_s"]) == (False, 4.0, 1.0)
    assert "blocked" in loop["says"]
    assert report(live(WELL, NOW_S))["status"] == "ok"


def test_a_clock_that_was_read_a_little_apart_makes_no_negative_age() -> None:
    checks = live(replace(WELL, asked_s=NOW_S + 0.01, polled_s=NOW_S + 0.01), NOW_S)
    assert [check.age_s for check in checks] == [0.0, 0.0]


def test_liveness_is_more_patient_than_readiness() -> None:
    assert health.POLL_S < health.LIVE_S
