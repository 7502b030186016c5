"""What an operator asks of all workers in a sentence, for every view that shows it.

Invariant: no I/O and no clock; text of others is made harmless.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairlane.monitor.pause_view import pause_line
from fairlane.monitor.show import age, moment, visible
from fairlane.topics.control import PAUSE, WEIGHT, ControlRecord


def order_line(record: ControlRecord, queue: str, now_ms: int) -> str:
    """What is asked, by whom, since when and why: `shop.p3 has weight 2, as ann@host asked (3 min ago) …`."""
    if record.kind == PAUSE:
        return pause_line(record, queue, now_ms)
    until = f", until {moment(record.until_ms)}" if record.until_ms else ""
    why = f": {visible(record.reason)}" if record.reason else ""
    since = f"{moment(record.at_ms)} ({age(max(0, now_ms - record.at_ms))})"
    return f"{_what(record)}, asked by {visible(record.who) or 'somebody'} since {since}{until}{why}"


def order_lines(records: Iterable[ControlRecord], queue: str, now_ms: int) -> list[str]:
    """A line for each."""
    return [order_line(each, queue, now_ms) for each in records]


def _what(record: ControlRecord) -> str:
    if record.kind == WEIGHT:
        return f"{visible(record.lane)} has weight {record.weight:,}"
    return f"{visible(record.kind)} of {visible(record.scope)}"
