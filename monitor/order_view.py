"""What an operator asks of all workers in a sentence, for every view that shows it.

Invariant: no I/O and no clock; text of others is made harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from fairlane.monitor.pause_view import pause_line
from fairlane.monitor.show import age, moment, visible
from fairlane.topics.control import DEMOTE, KILL, PAUSE, WEIGHT, ControlRecord

_KILLED: Final = {"drop": "is cancelled", "dlq": "goes to the dead letters", "park": "waits"}
"""What a kill-switch does with tasks, by its action."""


def order_line(record: ControlRecord, queue: str, now_ms: int, when: Callable[[int], str] = moment) -> str:
    """What is asked, by whom, since when and why: `shop.p3 has weight 2, asked by …`; `when` writes a time, Unix ms."""
    if record.kind == PAUSE:
        return pause_line(record, queue, now_ms, when)
    until = f", until {when(record.until_ms)}" if record.until_ms else ""
    why = f": {visible(record.reason)}" if record.reason else ""
    since = f"{when(record.at_ms)} ({age(max(0, now_ms - record.at_ms))})"
    return f"{what(record)}, asked by {visible(record.who) or 'somebody'} since {since}{until}{why}"


def order_lines(records: Iterable[ControlRecord], queue: str, now_ms: int) -> list[str]:
    """A line for each."""
    return [order_line(each, queue, now_ms) for each in records]


def what(record: ControlRecord) -> str:
    """What is asked, in a few words."""
    if record.kind == WEIGHT:
        return f"{visible(record.lane)} has weight {record.weight:,}"
    if record.kind == KILL:
        which = f" where {visible(record.where)}" if record.where else ""
        return f"type {visible(record.task_type)}{which} {_KILLED.get(record.action, record.action)}"
    if record.kind == DEMOTE:
        return f"type {visible(record.task_type)} is moved to {visible(record.to)}"
    return f"{visible(record.kind)} of {visible(record.scope)}"
