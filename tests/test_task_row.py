"""Facts about a task make one row, in whichever order they come and however often."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlane.monitor.store.task_row import FORGOTTEN, SKEW_MS, TaskRow, Told, Waiting, merge

TOLD = Told(7, 1_000, 0, "completed", "email", "q.p3", 1, 5, 500, 900, 990, 0, "w", "q.p3", 2, 40, "", "", "", "")
WAITING = Waiting(0, 1, 600, "q.p3", 2, 40, "email", "q.p3", "k", 5, 500, 0, 0, 0, "")

small = st.integers(0, 3)
topics = st.sampled_from(["q.p3", "q.p5", "q.retry-1m"])
told = st.builds(
    lambda **fields: replace(TOLD, **fields),
    offset=st.integers(FORGOTTEN, 3),
    written_ms=st.sampled_from([900, 1_000, 1_000 + 2 * SKEW_MS]),
    state=st.sampled_from(["retrying", "completed", "failed", "expired"]),
    attempt=small,
    topic=topics,
    at=small,
    error_type=st.sampled_from(["", "ValueError"]),
)
waiting = st.builds(
    lambda **fields: replace(WAITING, **fields),
    replays=small,
    attempt=small,
    written_ms=st.sampled_from([600, 1_000, 1_000 + 2 * SKEW_MS]),
    topic=topics,
    offset=small,
)
rows = st.one_of(told.map(lambda fact: TaskRow("t", fact)), waiting.map(lambda fact: TaskRow("t", None, fact)))


def row_of(facts: list[TaskRow]) -> TaskRow:
    row = facts[0]
    for fact in facts[1:]:
        row = merge(row, fact)
    return row


@given(facts=st.lists(rows, min_size=1, max_size=8), data=st.data())
def test_any_order_and_any_repeats_give_the_same_row(facts: list[TaskRow], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(facts), max_size=4))
    shuffled = data.draw(st.permutations(facts + again))
    assert row_of(shuffled) == row_of(facts)
    assert row_of(shuffled).summary == row_of(facts).summary


@given(facts=st.lists(rows, min_size=2, max_size=8), cut=st.integers(1, 7))
def test_parts_that_were_merged_apart_merge_to_the_same(facts: list[TaskRow], cut: int) -> None:
    cut = min(cut, len(facts) - 1)
    assert merge(row_of(facts[:cut]), row_of(facts[cut:])) == row_of(facts)


def state(told: dict[str, Any] | None, waiting: dict[str, Any] | None) -> str:
    return TaskRow(
        "t",
        None if told is None else replace(TOLD, **told),
        None if waiting is None else replace(WAITING, **waiting),
    ).summary.state


@pytest.mark.parametrize(
    ("told", "waiting", "expected"),
    [
        (None, {}, "pending"),
        (None, {"attempt": 2}, "retrying"),
        ({}, None, "completed"),
        ({}, {}, "completed"),  # the event settled this record
        ({"written_ms": 100}, {}, "completed"),  # whatever the brokers' clocks say
        ({"at": 39}, {}, "completed"),  # a hop of the same attempt, settled before
        ({"state": "retrying"}, {"topic": "q.retry-1m", "attempt": 2, "written_ms": 1_000}, "retrying"),
        ({"state": "failed", "attempt": 5}, {"replays": 1, "written_ms": 9_000, "offset": 77}, "pending"),  # put back
        ({"state": "completed", "at": 77}, {"replays": 1, "written_ms": 9_000, "offset": 77}, "completed"),
        # Its letter was put back, and it ended again, but the record of the replay was not read yet.
        ({"written_ms": 2 * SKEW_MS}, {"topic": "q.retry-1m", "attempt": 5}, "completed"),
    ],
)
def test_the_state_is_that_of_the_newest_fact(
    told: dict[str, Any] | None, waiting: dict[str, Any] | None, expected: str
) -> None:
    assert state(told, waiting) == expected


def test_a_letter_tells_what_no_event_does() -> None:
    letter = TaskRow("t", replace(TOLD, offset=FORGOTTEN, state="failed", written_ms=9_999))
    assert letter.summary.state == "failed"
    assert merge(letter, TaskRow("t", TOLD)).summary.state == "completed"
