"""A snapshot as text for a terminal: the lines of the CLI's contract, tables, and a screen that fits.

Invariant: it only shows. Everything is said in words and numbers, colour adds nothing that is not there without it; a
screen is never taller than the terminal, and what does not fit is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from fairlane.monitor.held_back_view import held_back_lines
from fairlane.monitor.order_view import order_lines
from fairlane.monitor.section import Column, Section
from fairlane.monitor.show import age, duration, seconds, visible
from fairlane.monitor.stats import Stats, TopicStats, WorkerStats
from fairlane.monitor.workers_view import newer_lines, pool_line

_BAR: Final = 10
_ROWS_FIRST: Final = 3
"""So many rows each section gets before any gets more."""
_POOLS_MAX: Final = 3
"""Of more pools than these only `fairlane workers` tells."""
_ORDERS_MAX: Final = 5
"""Of more that operators ask than these only `fairlane control list` tells."""
_SECTION_LINES: Final = 2
"""Its header and the blank line before it."""


def contract_lines(stats: Stats) -> tuple[str, ...]:
    """The lines that scripts may read."""
    return (
        f"Queue Length: {stats.queue_length}",
        f"Running Tasks: {stats.running_tasks}",
        f"Workers: {stats.worker_count}/{stats.workers_known} active",
        f"Avg Process Time: {seconds(stats.avg_process_time_s)}",
    )


def more_lines(stats: Stats) -> tuple[str, ...]:
    """The rest of the totals, in the same form."""
    rates = stats.rates
    return (
        f"P95 Process Time: {seconds(stats.p95_process_time_s)}",
        f"Utilisation: {stats.utilisation:.0%} of {stats.slots}",
        f"Delayed Tasks: {stats.delayed_tasks}",
        f"Dead Letters: {stats.dead_letters}",
        f"Completed: {stats.completed_tasks} ({_rate(rates.completed_per_s)}/s)",
        f"Failed: {stats.failed_tasks} ({_rate(rates.failed_per_s)}/s)",
        f"Retried: {stats.retried_attempts} ({_rate(rates.retried_per_s)}/s)",
        f"Enqueued: {_rate(rates.enqueued_per_s)}/s",
        *newer_lines(stats),
        *(pool_line(pool) for pool in stats.pools),
        *order_lines((*stats.paused, *stats.orders), stats.queue, stats.at_ms),
        *held_back_lines(stats),
    )


def sections(stats: Stats) -> tuple[Section, ...]:
    """What there is in tables, the most important first; those without rows are left out."""
    every = (_topics(stats), _workers(stats.workers), _running(stats), _types(stats))
    return tuple(section for section in every if section.rows)


def report(stats: Stats, width: int) -> Group:
    """All tables in full length, with what their numbers are."""
    tables: list[RenderableType] = []
    for section in sections(stats):
        tables += [Text(""), section.table(width)]
    if any(not topic.exact for topic in (*stats.lanes, *stats.tiers)):
        tables += [Text(""), Text("~ is an estimate from offsets, in which the markers of transactions count too.")]
    return Group(*tables)


def screen(stats: Stats, *, width: int, height: int, clock: str, note: str = "") -> Group:
    """A screen of at most `height` lines.

    Args:
        stats: what is shown.
        width: of the terminal, in characters.
        height: of the terminal, in lines.
        clock: what the top right corner says.
        note: a line that must be seen, such as a problem; "" is none.
    """
    lines: list[RenderableType] = [*_head(stats, width, clock)]
    asked = order_lines((*stats.paused, *stats.orders)[:_ORDERS_MAX], stats.queue, stats.at_ms)
    lines += [_line(each, width, "yellow") for each in (*asked, *held_back_lines(stats))]
    if note:
        lines.append(_line(f"! {note}", width, "bold red"))
    shown = sections(stats)
    allotted = allot([len(section.rows) for section in shown], height - len(lines))
    for section, rows in zip(shown, allotted, strict=True):
        if rows:
            lines += [Text(""), section.table(width, rows)]
    return Group(*lines[: max(1, height)])


def allot(wanted: Sequence[int], lines: int) -> list[int]:
    """How many rows each section gets of so many lines: a few each in order, then the rest in order.

    Args:
        wanted: rows of each section.
        lines: what there is for all of them, with their headers.
    """
    given = [0] * len(wanted)
    for number, rows in enumerate(wanted):
        first = min(rows, _ROWS_FIRST)
        if lines < _SECTION_LINES + 1:
            break
        given[number] = min(first, lines - _SECTION_LINES)
        lines -= _SECTION_LINES + given[number]
    for number, rows in enumerate(wanted):
        if given[number]:
            more = min(rows - given[number], max(0, lines))
            given[number] += more
            lines -= more
    return given


def _head(stats: Stats, width: int, clock: str) -> list[Text]:
    rates = stats.rates
    title = f"fairlane  {visible(stats.queue)}"
    gap = max(2, width - len(title) - len(clock))
    facts = (
        (
            f"Queue Length: {_length(stats)}",
            f"Running Tasks: {stats.running_tasks} of {stats.slots}",
            f"Delayed: {stats.delayed_tasks:,}",
            f"Dead Letters: {stats.dead_letters:,}",
        ),
        (
            f"Workers: {stats.worker_count}/{stats.workers_known} active, {stats.utilisation:.0%} busy",
            f"Avg Process Time: {seconds(stats.avg_process_time_s)}, p95 {seconds(stats.p95_process_time_s)}",
        ),
        (
            f"Completed: {stats.completed_tasks:,} ({_rate(rates.completed_per_s)}/s)",
            f"Failed: {stats.failed_tasks:,} ({_rate(rates.failed_per_s)}/s)",
            f"Retried: {stats.retried_attempts:,} ({_rate(rates.retried_per_s)}/s)",
            f"Enqueued: {_rate(rates.enqueued_per_s)}/s",
        ),
    )
    lines = [line for group in facts for line in _side_by_side(group, width)]
    lines += [pool_line(pool) for pool in stats.pools[:_POOLS_MAX]]
    return [_line(title + " " * gap + clock, width, "bold"), *(_line(line, width) for line in lines)]


def _side_by_side(facts: Sequence[str], width: int) -> list[str]:
    """As many in a line as fit."""
    lines = [facts[0]]
    for fact in facts[1:]:
        joined = f"{lines[-1]}   {fact}"
        if len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(fact)
    return lines


def _line(text: str, width: int, style: str = "") -> Text:
    line = Text(visible(text), style=style, no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return line


def _length(stats: Stats) -> str:
    return ("" if all(lane.exact for lane in stats.lanes) else "~") + f"{stats.queue_length:,}"


def _topics(stats: Stats) -> Section:
    topics = (*stats.lanes, *stats.tiers, *((stats.dlq,) if stats.dlq else ()))
    return Section(
        (
            Column("Topic", right=False, least=8),
            Column("Waiting"),
            Column("Oldest"),
            Column("Next due", rank=1),
            Column("In/s", rank=2),
            Column("Lag", rank=3),
            Column("Weight", rank=4),
            Column("Partitions", rank=5),
        ),
        tuple(_topic(topic, stats) for topic in topics),
    )


def _topic(topic: TopicStats, stats: Stats) -> tuple[str, ...]:
    length = stats.dead_letters if topic.kind == "dlq" else topic.length
    due = "-"
    if topic.kind == "tier" and topic.oldest_age_ms:
        left_ms = topic.delay_ms - topic.oldest_age_ms
        due = f"in {age(left_ms)}" if left_ms > 0 else "now"
    return (
        visible(topic.topic.removeprefix(f"{stats.queue}.")),
        ("" if topic.exact else "~") + f"{length:,}",
        age(topic.oldest_age_ms) if topic.oldest_age_ms and length else "-",
        due,
        _rate(topic.in_per_s),
        f"{topic.lag:,}" if topic.kind != "dlq" else "-",
        f"{topic.weight:,}" if topic.kind == "lane" else "-",
        str(topic.partitions),
    )


def _workers(workers: Sequence[WorkerStats]) -> Section:
    return Section(
        (
            Column("Worker", right=False, least=8),
            Column("State", right=False),
            Column("Busy", rank=4),
            Column("Running"),
            Column("Done/s", rank=1),
            Column("Completed", rank=2),
            Column("Failed", rank=3),
            Column("Retried", rank=5),
            Column("Buffered", rank=7),
            Column("Delayed", rank=9),
            Column("Partitions", rank=10),
            Column("Up", rank=6),
            Column("Heard", rank=8),
        ),
        tuple(_worker(worker) for worker in workers),
    )


def _worker(worker: WorkerStats) -> tuple[str, ...]:
    gone = worker.state == "lost"
    full = min(_BAR, round(worker.utilisation * _BAR))
    return (
        visible(worker.worker),
        worker.state,
        "-" if gone else f"{'#' * full}{'.' * (_BAR - full)} {worker.utilisation:4.0%}",
        "-" if gone else f"{worker.running}/{worker.concurrency}",
        _rate(worker.per_s),
        f"{worker.completed:,}",
        f"{worker.failed:,}",
        f"{worker.retried:,}",
        f"{worker.buffered:,}",
        f"{worker.delayed:,}",
        str(worker.partitions),
        age(worker.uptime_ms),
        f"{age(worker.age_ms)} ago",
    )


def _running(stats: Stats) -> Section:
    return Section(
        (
            Column("Running for"),
            Column("Type", right=False, least=6),
            Column("Task", right=False, least=8),
            Column("Worker", right=False, rank=1, least=8),
            Column("Record", right=False, rank=2, least=12),
        ),
        tuple(
            (
                age(running.age_ms),
                visible(running.task.type),
                visible(running.task.id),
                visible(running.worker),
                visible(f"{running.task.partition}/{running.task.offset}"),
            )
            for running in stats.running
        ),
    )


def _types(stats: Stats) -> Section:
    adapts = any(one.limit for one in stats.types)
    return Section(
        (
            Column("Type", right=False, least=6),
            Column("Last minute", rank=1),
            Column("Mean"),
            Column("P95"),
            *((Column("At once"),) if adapts else ()),
        ),
        tuple(
            (
                visible(one.type),
                f"{one.n:,}",
                duration(one.mean_ms),
                duration(one.p95_ms),
                *((str(one.limit) if one.limit else "-",) if adapts else ()),
            )
            for one in stats.types
        ),
    )


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 or per_s == 0 else f"{per_s:.1f}"
