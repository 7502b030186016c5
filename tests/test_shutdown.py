"""How a worker ends: every way through its phases, and the exit code that it comes to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlane.consumer.shutdown import DRAINED, FAILED, GRACE_EXCEEDED, Event, Phase, Shutdown

STOP, QUIET, GRACE_OVER, SETTLED, CRASHED = Event.STOP, Event.QUIET, Event.GRACE_OVER, Event.SETTLED, Event.CRASHED


@pytest.mark.parametrize(
    ("events", "exit_code"),
    [
        # Everything that ran ended within the grace.
        ([STOP, QUIET, SETTLED], DRAINED),
        # A second request changes nothing.
        ([STOP, STOP, QUIET, STOP, SETTLED], DRAINED),
        # Something was taken from its handler: it let go, or it did not even then.
        ([STOP, GRACE_OVER, QUIET, SETTLED], GRACE_EXCEEDED),
        ([STOP, GRACE_OVER, STOP, GRACE_OVER, SETTLED], GRACE_EXCEEDED),
        # A thread failed, in whatever phase: that is said rather than what else happened.
        ([CRASHED], FAILED),
        ([STOP, CRASHED], FAILED),
        ([STOP, GRACE_OVER, CRASHED], FAILED),
        ([STOP, GRACE_OVER, QUIET, CRASHED], FAILED),
    ],
)
def test_a_worker_ends_with_the_code_of_how_it_ended(events: list[Event], exit_code: int) -> None:
    shutdown = Shutdown()
    for event in events:
        shutdown.on(event)
    assert (shutdown.phase, shutdown.exit_code) == (Phase.ENDED, exit_code)


def test_a_worker_drains_before_it_cuts_and_settles_before_it_ends() -> None:
    shutdown = Shutdown()
    assert [shutdown.on(event) for event in (STOP, GRACE_OVER, QUIET, SETTLED)] == [
        Phase.DRAINING,
        Phase.CUTTING,
        Phase.SETTLING,
        Phase.ENDED,
    ]


@pytest.mark.parametrize("event", [QUIET, GRACE_OVER, SETTLED])
def test_what_cannot_happen_raises_and_changes_nothing(event: Event) -> None:
    shutdown = Shutdown()
    with pytest.raises(ValueError, match="RUNNING"):
        shutdown.on(event)
    assert shutdown.phase is Phase.RUNNING


@given(st.lists(st.sampled_from(Event), max_size=12))
def test_no_order_of_events_leads_out_of_the_end_or_back_to_work(events: list[Event]) -> None:
    shutdown = Shutdown()
    order = list(Phase)
    for event in events:
        before = shutdown.phase
        try:
            shutdown.on(event)
        except ValueError:
            assert shutdown.phase is before
        assert order.index(shutdown.phase) >= order.index(before)
