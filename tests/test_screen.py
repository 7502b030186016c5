"""The screen fits every terminal, says in words what it says, and counts what does not fit."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from fairlane.monitor.live import Look, note
from fairlane.monitor.screen import allot, contract_lines, report, screen
from fairlane.monitor.section import Column, Section
from fairlane.monitor.stats import Rates, RunningStats, Stats, TopicStats, TypeStats, WorkerStats
from fairlane.topics.events import RunningTask

STATS = Stats(
    queue="shop",
    at_ms=1_795_496_000_000,
    queue_length=42,
    running_tasks=8,
    completed_tasks=1_234,
    failed_tasks=3,
    avg_process_time_s=1.2,
    p95_process_time_s=3.4,
    worker_count=10,
    workers_known=11,
    utilisation=0.8,
    slots=100,
    dead_letters=3,
    rates=Rates(completed_per_s=12.34, enqueued_per_s=1_500.0),
    lanes=tuple(
        TopicStats(
            topic=f"shop.p{level}", kind="lane", level=level, length=level * 3, oldest_age_ms=61_000, partitions=12
        )
        for level in (5, 4, 3, 2, 1)
    ),
    tiers=(
        TopicStats(topic="shop.retry-5s", kind="tier", delay_ms=5_000, length=2, oldest_age_ms=2_000),
        TopicStats(
            topic="shop.retry-1m", kind="tier", delay_ms=60_000, length=2_000, exact=False, oldest_age_ms=70_000
        ),
    ),
    dlq=TopicStats(topic="shop.dlq", kind="dlq", length=3),
    workers=(
        *(WorkerStats(worker=f"box-{number}", state="running", concurrency=10) for number in range(10)),
        WorkerStats(worker="box-11", state="lost", age_ms=20_000),
    ),
    types=(TypeStats(type="send\x1b[31m_email", n=40, mean_ms=35.0, p95_ms=80.0, limit=123),),
    running=tuple(
        RunningStats(worker="box-1", task=RunningTask(f"id-{number}", "完了" * 20, 0, "shop.p3/0", number), age_ms=900)
        for number in range(7)
    ),
)


def drawn(width: int, height: int, note: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(screen(STATS, width=width, height=height, clock="05:06:07, every 1s, q quits", note=note))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rstrip("\n").split("\n")


@given(st.integers(12, 240), st.integers(1, 70), st.sampled_from(["", "Kafka did not answer " * 20]))
def test_a_screen_is_never_larger_than_the_terminal(width: int, height: int, note: str) -> None:
    lines = drawn(width, height, note)
    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= max(width, 30)  # a number is not cut, however narrow it gets


def test_a_wide_screen_says_everything() -> None:
    text = "\n".join(drawn(150, 60))
    for said in ("Queue Length: 42", "Running Tasks: 8 of 100", "Workers: 10/11 active, 80% busy", "12.3/s", "1,500/s"):
        assert said in text
    assert "~2,000" in text  # an estimate is marked
    assert "lost" in text  # in words, not only in colour
    assert "now" in text  # the tier's head is due
    assert "\x1b" not in text
    assert r"send\x1b[31m_email" in text
    assert "At once" in text
    assert "123" in text


def test_what_does_not_fit_is_counted() -> None:
    lines = drawn(100, 24)
    assert any("more" in line for line in lines)


def test_a_problem_stays_in_sight() -> None:
    assert any(line.startswith("! Kafka did not answer") for line in drawn(80, 10, "Kafka did not answer"))


@pytest.mark.parametrize(
    ("old_ms", "problem", "said"),
    [
        (1_500, "", ""),
        (9_000, "", "These numbers are 9s old, Kafka has not answered since"),
        (9_000, "no such queue", "These numbers are 9s old: no such queue"),
        (500, "no such queue", "These numbers are 0s old: no such queue"),
    ],
)
def test_old_numbers_are_said_to_be_old(old_ms: int, problem: str, said: str) -> None:
    assert note(Look(STATS, problem), STATS.at_ms + old_ms, interval_s=1.0) == said


def test_the_contract_lines_are_the_briefs() -> None:
    assert contract_lines(STATS) == (
        "Queue Length: 42",
        "Running Tasks: 8",
        "Workers: 10/11 active",
        "Avg Process Time: 1.2s",
    )


def test_a_report_has_every_row_and_says_what_an_estimate_is() -> None:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(report(STATS, 200))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert all(f"box-{number}" in text for number in range(10))
    assert "~ is an estimate" in text


@given(st.lists(st.integers(0, 30), max_size=5), st.integers(-5, 100))
def test_rows_are_allotted_within_the_lines_there_are(wanted: list[int], lines: int) -> None:
    given_rows = allot(wanted, lines)
    used = sum(rows + 2 for rows in given_rows if rows)
    assert used <= max(0, lines)
    assert all(rows <= most for rows, most in zip(given_rows, wanted, strict=True))
    if lines >= sum(rows + 2 for rows in wanted):
        assert given_rows == wanted


SECTION = Section(
    (Column("Name", right=False, least=4), Column("N"), Column("Rare", rank=2), Column("Often", rank=1)),
    (("a long name", "12", "xxxxxxxx", "yyyyy"),),
)


def columns_at(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(SECTION.table(width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().split("\n")[0].split()


def test_the_least_needed_columns_go_first_and_names_are_cut_before() -> None:
    assert columns_at(40) == ["Name", "N", "Rare", "Often"]
    assert columns_at(26) == ["Name", "N", "Rare", "Often"]  # the name is cut
    assert columns_at(20) == ["Name", "N", "Often"]
    assert columns_at(10) == ["Name", "N"]
