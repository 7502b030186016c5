"""A pause in a sentence, for every view that shows one.

Invariant: no I/O and no clock; text of others is made harmless.
"""

from __future__ import annotations

from collections.abc import Callable

from fairlane.monitor.show import age, moment, visible
from fairlane.topics.control import ControlRecord


def pause_line(record: ControlRecord, queue: str, now_ms: int, when: Callable[[int], str] = moment) -> str:
    """A pause in a sentence: `shop.p3 is paused by ann@host since …`; `when` writes a time, Unix ms."""
    what = f"type {visible(record.task_type)}" if record.task_type else visible(record.lane)
    what = what or f"the whole queue {visible(queue)}"
    until = f", until {when(record.until_ms)}" if record.until_ms else ""
    why = f": {visible(record.reason)}" if record.reason else ""
    since = f"{when(record.at_ms)} ({age(max(0, now_ms - record.at_ms))})"
    return f"{what} is paused by {visible(record.who) or 'somebody'} since {since}{until}{why}"
