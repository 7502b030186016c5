"""A pause in a sentence, for every view that shows one.

Invariant: no I/O and no clock; text of others is made harmless.
"""

from __future__ import annotations

from fairlane.monitor.show import age, moment, visible
from fairlane.topics.control import ControlRecord


def pause_line(record: ControlRecord, queue: str, now_ms: int) -> str:
    """A pause in a sentence: `shop.p3 is paused by ann@host since …`."""
    what = visible(record.lane) or f"the whole queue {visible(queue)}"
    until = f", until {moment(record.until_ms)}" if record.until_ms else ""
    why = f": {visible(record.reason)}" if record.reason else ""
    since = f"{moment(record.at_ms)} ({age(max(0, now_ms - record.at_ms))})"
    return f"{what} is paused by {visible(record.who) or 'somebody'} since {since}{until}{why}"
