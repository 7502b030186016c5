"""The instants of a schedule: those of the library's own calendar, over a year's changes, from wherever one asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from fairlane.topics.errors import UsageError
from fairlane.topics.timetable import timetable

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata", "UTC")
CRONS = (
    "0 9 * * 1-5",
    "30 2 * * *",
    "0,20,40 2 * * *",
    "*/15 * * * *",
    "15 */2 * * *",
    "0 0 1 * *",
    "5 1-3 * * SUN",
    "0 3 * * *",
    "17 0 * * *",
    "*/10 30 2 * * *",
)
YEAR = 2026


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


@lru_cache
def changes(zone: str) -> list[int]:
    """The hours of the year in which the offset from UTC changes."""
    found, hour = [], datetime(YEAR, 1, 1, tzinfo=UTC)
    while hour.year == YEAR:
        later = hour + timedelta(hours=1)
        if hour.astimezone(ZoneInfo(zone)).utcoffset() != later.astimezone(ZoneInfo(zone)).utcoffset():
            found.append(ms(hour))
        hour = later
    return found


def instants(cron: str, zone: str, from_ms: int, until_ms: int) -> list[int]:
    table, found, at = timetable(cron=cron, tz=zone), [], from_ms
    while (following := table.after(at)) is not None and following <= until_ms:
        found.append(at := following)
    return found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", CRONS)
def test_over_a_year_they_are_those_of_the_library(cron: str, zone: str) -> None:
    begin, end = datetime(YEAR, 1, 1, tzinfo=UTC), datetime(YEAR + 1, 1, 1, tzinfo=UTC)
    if cron.startswith("*/1"):
        # Some days around each change: as many instants as in a year of the others.
        spans = [(change - 2 * 86_400_000, change + 2 * 86_400_000) for change in changes(zone)] or [
            (ms(begin), ms(begin) + 86_400_000)
        ]
    else:
        spans = [(ms(begin), ms(end))]
    for from_ms, until_ms in spans:
        start = datetime.fromtimestamp(from_ms / 1000, UTC).astimezone(ZoneInfo(zone))
        own = list(takewhile(until_ms.__ge__, map(ms, CronSim(cron, start))))
        assert instants(cron, zone, from_ms, until_ms) == own
        assert own == sorted(set(own))
    assert len(changes(zone)) == (0 if zone in ("Asia/Kolkata", "America/Sao_Paulo", "UTC") else 2)


def test_a_time_that_is_skipped_is_due_after_the_jump_and_one_that_comes_twice_is_due_once() -> None:
    zone = ZoneInfo("Europe/Berlin")
    spring = instants(
        "30 2 * * *", zone.key, ms(datetime(2026, 3, 28, 12, tzinfo=zone)), ms(datetime(2026, 3, 30, tzinfo=zone))
    )
    assert [datetime.fromtimestamp(each / 1000, zone).hour for each in spring] == [3]
    autumn = instants(
        "30 2 * * *", zone.key, ms(datetime(2026, 10, 24, 12, tzinfo=zone)), ms(datetime(2026, 10, 26, tzinfo=zone))
    )
    assert [datetime.fromtimestamp(each / 1000, UTC).hour for each in autumn] == [0]


@given(
    st.sampled_from(CRONS),
    st.sampled_from(ZONES[:3]),
    st.sampled_from((0, 1)),
    st.integers(-3 * 86_400, 3 * 86_400),
    st.integers(0, 6 * 3_600_000),
)
def test_they_do_not_depend_on_where_one_begins_to_ask(
    cron: str, zone: str, which: int, at_s: int, later_ms: int
) -> None:
    change = changes(zone)[which]
    first = change + at_s * 1000
    until = first + later_ms + 86_400_000
    earlier = instants(cron, zone, first, until)
    assert instants(cron, zone, first + later_ms, until) == [each for each in earlier if each > first + later_ms]


@given(
    st.sampled_from(
        [{"cron": cron} for cron in CRONS] + [{"every_ms": 1_000}, {"every_ms": 90_000}, {"every_ms": 86_400_000}]
    ),
    st.integers(0, 8 * 86_400_000),
    st.integers(1, 50),
)
def test_the_newest_are_the_last_of_all(when: dict[str, object], span_ms: int, limit: int) -> None:
    table = timetable(**when, tz="Europe/Berlin")
    until = ms(datetime(2026, 3, 29, 12, 0, 7, 500_000, tzinfo=UTC))
    after = until - span_ms
    every, at = [], after
    if span_ms > 86_400_000 and ("*/1" in str(when) or when.get("every_ms") == 1_000):
        at = until - 3_600_000
    while (following := table.after(at)) is not None and following <= until:
        every.append(at := following)
    assert table.newest(after, until, limit) == every[-limit:]


def test_periods_are_counted_from_1970_so_that_all_workers_have_the_same() -> None:
    table = timetable(every_ms=30_000)
    assert [table.after(at) for at in (0, 29_999, 30_000, 45_123)] == [30_000, 30_000, 60_000, 60_000]


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"cron": "* * *"}, "no cron expression"),
        ({"cron": "61 * * * *"}, "no cron expression"),
        ({"cron": "0 0 30 2 *"}, "no cron expression"),
        ({"cron": "0 0 * * *", "tz": "Mars/Olympus"}, "no time zone"),
        ({"cron": "0 0 * * *", "tz": "../../etc/passwd"}, "no time zone"),
        ({"every_ms": 999}, "a period of"),
        ({"every_ms": 400 * 86_400_000}, "a period of"),
        ({}, "one of them"),
        ({"cron": "0 0 * * *", "every_ms": 1_000}, "one of them"),
    ],
)
def test_what_is_no_timetable_is_refused_with_a_reason(when: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        timetable(**when)
