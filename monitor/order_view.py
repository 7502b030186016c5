"""What an operator asks of all workers in a sentence, for every view that shows it.

Invariant: no I/O and no clock; text of others is made harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from fairlane.monitor.show import age, moment, visible
from fairlane.topics.control import DEMOTE, KILL, PAUSE, WEIGHT, ControlRecord

_KILLED: Final = {"drop": "is cancelled", "dlq": "goes to the dead letters", "park": "waits"}
"""What a kill-switch does with tasks, by its action."""


def order_line(record: ControlRecord, queue: str, now_ms: int, when: Callable[[int], str] = moment) -> str:
    """What is asked, by whom, since when and why: `shop.p3 has weight 2, asked by …`; `when` writes a time, Unix ms."""
    if record.kind == PAUSE:
        return pause_line(record, queue, now_ms, when)
    return f"{what(record)}, asked {_by_whom(record, now_ms, when)}"


def pause_line(record: ControlRecord, queue: str, now_ms: int, when: Callable[[int], str] = moment) -> str:
    """A pause in a sentence: `shop.p3 is paused by ann@host since …`; `when` writes a time, Unix ms."""
    of = f"type {visible(record.task_type)}" if record.task_type else visible(record.lane)
    return f"{of or f'the whole queue {visible(queue)}'} is paused {_by_whom(record, now_ms, when)}"


def _by_whom(record: ControlRecord, now_ms: int, when: Callable[[int], str]) -> str:
    until = f", until {when(record.until_ms)}" if record.until_ms else ""
    why = f": {visible(record.reason)}" if record.reason else ""
    since = f"{when(record.at_ms)} ({age(max(0, now_ms - record.at_ms))})"
    return f"by {visible(record.who) or 'somebody'} since {since}{until}{why}"


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
