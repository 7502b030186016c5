"""Which dead letters somebody means, and what letters died of."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from fairlane.monitor.letter import Letter
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.letter_groups import group_of, grouped, shape_of
from fairlane.monitor.pace import Pace
from fairlane.monitor.record import Record
from fairlane.monitor.replay_job import ReplayJob
from fairlane.topics.errors import UsageError

LETTER = Letter(
    record=Record("shop.dlq", 1, 5, 1_000, b"customer-7", b"{}", ()),
    task_id="a", type="email", reason="fatal", error_type="ValueError", error_message="no user 17", attempt=3,
    lane="shop.p3",
)  # fmt: skip


@pytest.mark.parametrize(
    ("said", "other"),
    [
        ({"places": frozenset({"shop.dlq/1/5"})}, {"places": frozenset({"shop.dlq/1/6"})}),
        ({"task_id": "a"}, {"task_id": "b"}),
        ({"type": "email"}, {"type": "mail"}),
        ({"reason": "fatal"}, {"reason": "rejected"}),
        ({"error": "NO USER"}, {"error": "no customer"}),
        ({"error_regex": r"^ValueError: .* \d+$"}, {"error_regex": "^no user"}),
        ({"lane": "shop.p3"}, {"lane": "shop.p5"}),
        ({"key": "customer-7"}, {"key": ""}),
        ({"since_ms": 1_000}, {"since_ms": 1_001}),
        ({"until_ms": 1_001}, {"until_ms": 1_000}),
        ({"attempts_min": 3}, {"attempts_min": 4}),
        ({"attempts_max": 3}, {"attempts_max": 2}),
        ({"group": group_of(LETTER)}, {"group": "00000000"}),
    ],
)
def test_each_word_of_the_filter_chooses(said: dict[str, Any], other: dict[str, Any]) -> None:
    wanted = LetterFilter(**said)
    assert wanted.fits(LETTER)
    assert wanted.chooses
    assert not LetterFilter(**other).fits(LETTER)
    assert not LetterFilter(**(said | {"type": "other"})).fits(LETTER)  # all that is said must fit
    assert LetterFilter.from_json(wanted.to_json()) == wanted


def test_an_empty_filter_fits_all_and_says_so() -> None:
    assert LetterFilter(replayed=True).fits(LETTER)
    assert not LetterFilter(replayed=True).chooses


@pytest.mark.parametrize("make", [lambda: LetterFilter(error_regex="("), lambda: LetterFilter.from_json('{"x":1}')])
def test_a_filter_that_is_none_is_a_usage_error(make: Any) -> None:
    with pytest.raises(UsageError):
        make()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no user 17", "no user 4,711"),
        ("E: key 'a b' is missing", "E: key 'c' is missing"),
        ("lost 01a20c0a-f2a7-70a4-9f59-7a9055885d97", "lost 01a20c0f-4def-71c6-b1c5-0a72ca3d65e8"),
        ("at 0x7f3a2b10", "at 0x7f3a99ff"),
        ("boom\nline 2", "boom\nline 3 differs"),
    ],
)
def test_what_differs_from_task_to_task_does_not_tell_groups_apart(one: str, other: str) -> None:
    assert shape_of(one) == shape_of(other)


def test_letters_are_grouped_by_type_reason_and_error_the_largest_first() -> None:
    def at(offset: int, **fields: Any) -> Letter:
        return replace(LETTER, record=replace(LETTER.record, offset=offset, timestamp_ms=offset), **fields)

    letters = [at(1), at(2, error_message="no user 18", replays=2), at(3, type="report"), at(4, reason="expired")]
    largest, *others = grouped(letters)
    assert (largest.count, largest.oldest_ms, largest.newest_ms, largest.newest) == (2, 1, 2, "shop.dlq/1/2")
    assert (largest.error, largest.example) == ("ValueError: no user <n>", "ValueError: no user 18")
    assert (largest.id, largest.replays) == (group_of(letters[0]), 2)
    assert [group.count for group in others] == [1, 1]


def test_a_job_is_named_after_all_that_it_is() -> None:
    job = ReplayJob(queue="shop", filter=LetterFilter(type="email"), ends={"0": 5})
    assert job.id == ReplayJob(queue="shop", filter=LetterFilter(type="email"), ends={"0": 5}).id
    others: list[dict[str, Any]] = [
        {"queue": "other"},
        {"ends": {"0": 6}},
        {"filter": LetterFilter()},
        {"again": True},
        {"limit": 3},
    ]
    assert len({job.id, *(replace(job, **other).id for other in others)}) == 6


def test_a_pace_keeps_its_rate_and_catches_nothing_up() -> None:
    pace, now_s, sent = Pace(100), 50.0, 0
    while now_s < 60:
        wait_s = pace.wait_s(now_s)
        now_s += wait_s
        pace.went(pace.batch, now_s)
        sent += pace.batch
    assert 1_000 <= sent <= 1_000 + 2 * pace.batch
    now_s += 1_000  # paused
    pace.went(pace.batch, now_s)
    pace.went(pace.batch, now_s)
    assert pace.wait_s(now_s) == pytest.approx(pace.batch / 100)
    assert Pace(None).wait_s(0.0) == 0
    assert Pace(0.5).batch == 1
