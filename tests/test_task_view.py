"""Which of several facts about a task is the newest: a table of what may be found at once."""

from __future__ import annotations

from typing import Literal

import pytest

from fairlane.monitor.letter import Letter, letter_of
from fairlane.monitor.record import Record
from fairlane.monitor.task_view import Facts, Place, Runs, Said, Waits, view
from fairlane.topics.events import ErrorInfo, RunningTask, State, StatusEvent
from fairlane.topics.task import Task

T = 1_760_000_000_000


def said(state: State, attempt: int = 1, offset: int = 10, at_ms: int = T) -> Said:
    event = StatusEvent(
        id="a", type="email", state=state, attempt=attempt, started_ms=at_ms - 100, finished_ms=at_ms, worker="w1",
        topic="q.p3", partition=0, offset=offset, error=ErrorInfo("OSError", "no route"), max_attempts=5,
    )  # fmt: skip
    return Said(event, at_ms)


def waits(
    offset: int,
    attempt: int = 1,
    kind: Literal["lane", "tier"] = "lane",
    came_ms: int = T,
    replays: int = 0,
    due_ms: int = 0,
) -> Waits:
    topic = "q.p3" if kind == "lane" else "q.retry-1m"
    task = Task(
        id="a", type="email", payload=b"{}", attempt=attempt, replays=replays, lane="q.p3", not_before_ms=due_ms
    )
    return Waits(task, Place(kind=kind, topic=topic, partition=0, offset=offset), came_ms)


def runs(offset: int, since_ms: int = T, topic: str = "q.p3", worker: str = "w2") -> Runs:
    return Runs(worker, RunningTask("a", "email", since_ms, f"{topic}/0", offset))


LETTER = Letter(record=Record("q.dlq", 0, 3, T, None, b"", ()), task_id="a", reason="fatal", died_ms=T)

NOTHING = Facts()


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (Facts(waits=(waits(10),)), "pending"),
        (Facts(waits=(waits(10, due_ms=T + 60_000),)), "pending"),  # enqueued with a delay
        (Facts(waits=(waits(2, attempt=2, kind="tier"),)), "retrying"),  # its status was not read, or is gone
        (Facts(waits=(waits(10),), runs=(runs(10),)), "running"),
        (Facts(runs=(runs(10),)), "running"),  # its record was not found in time
        (Facts(said=said("retrying")), "retrying"),  # the record in the tier was not found in time
        (Facts(said=said("retrying"), waits=(waits(2, attempt=2, kind="tier"),)), "retrying"),
        # A heartbeat is up to a second old: it lists the very attempt that has just ended.
        (Facts(said=said("retrying"), runs=(runs(10, since_ms=T - 100),)), "retrying"),
        (Facts(said=said("retrying"), runs=(runs(2, since_ms=T + 60_000, topic="q.retry-1m"),)), "running"),
        # The lane's record still lies there above the watermark: it is the one that was settled.
        (Facts(said=said("retrying"), waits=(waits(10),)), "retrying"),
        # Waiting for a worker with its handler costs no attempt: the record in the tier has the same number.
        (Facts(said=said("retrying"), waits=(waits(2, attempt=1, kind="tier"),)), "retrying"),
        (Facts(said=said("completed")), "completed"),
        (Facts(said=said("completed"), runs=(runs(10),), waits=(waits(10),)), "completed"),  # terminal wins
        (Facts(said=said("cancelled"), waits=(waits(10),)), "cancelled"),
        (Facts(said=said("failed")), "failed"),
        (Facts(said=said("failed"), letter=LETTER), "failed"),
        (Facts(letter=LETTER), "failed"),  # its status is gone after seven days
        (Facts(said=said("failed"), replayed_ms=T + 5, waits=(waits(11, replays=1),)), "pending"),
        (Facts(said=said("failed"), replayed_ms=T + 5, runs=(runs(11, since_ms=T + 9),)), "running"),
        (Facts(said=said("failed"), replayed_ms=T + 5, waits=(waits(10),)), "failed"),  # only the dead record is there
        (Facts(said=said("failed"), replayed_ms=T - 5), "failed"),  # replayed, and dead again
        (Facts(said=said("completed"), replayed_ms=T - 5), "completed"),
    ],
)
def test_the_newest_fact_wins(facts: Facts, state: State) -> None:
    found = view("q", "a", facts)
    assert found is not None
    assert (found.id, found.state) == ("a", state)


def test_no_fact_is_no_task() -> None:
    assert view("q", "a", NOTHING) is None


def test_of_two_records_the_one_that_the_other_became_counts() -> None:
    found = view("q", "a", Facts(waits=(waits(2, attempt=2, kind="tier"), waits(10, attempt=1, came_ms=T + 1))))
    assert found is not None
    assert found.place is not None
    assert (found.place.kind, found.attempt) == ("tier", 2)


def test_of_two_hops_the_later_counts() -> None:
    early, late = waits(2, 2, "tier", T), waits(3, 2, "tier", T + 10)
    for order in ((early, late), (late, early)):
        found = view("q", "a", Facts(waits=order))
        assert found is not None
        assert found.place is not None
        assert found.place.offset == 3


def test_a_retry_that_waits_shows_when_it_is_due_and_what_went_wrong() -> None:
    found = view("q", "a", Facts(said=said("retrying"), waits=(waits(2, 2, "tier", due_ms=T + 60_000),)))
    assert found is not None
    assert (found.attempt, found.max_attempts, found.due_ms) == (2, 5, T + 60_000)
    assert found.error is not None
    assert found.error.message == "no route"


def test_a_retry_that_runs_says_which_attempt_it_is() -> None:
    facts = Facts(said=said("retrying", attempt=3), runs=(runs(2, since_ms=T + 9, topic="q.retry-1m"),))
    found = view("q", "a", facts)
    assert found is not None
    assert (found.attempt, found.worker, found.started_ms, found.error) == (4, "w2", T + 9, None)


def test_a_letter_of_anything_is_a_letter() -> None:
    strange = Record("q.dlq", 1, 2, T, None, None, [("fairlane-attempt", b"\xff"), ("ce_id", b"\xff"), ("x", None)])
    letter = letter_of(strange)
    assert (letter.place, letter.attempt, letter.task_id, letter.reason) == ("q.dlq/1/2", 0, "\ufffd", "")


def test_a_view_is_a_status_event_for_who_knows_only_those() -> None:
    found = view("q", "a", Facts(waits=(waits(10),)))
    assert found is not None
    event = found.to_event()
    assert (event.id, event.state, event.topic, event.offset) == ("a", "pending", "q.p3", 10)
