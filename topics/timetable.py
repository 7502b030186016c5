"""When a schedule is due: its instants, of a cron expression in a time zone or of a fixed period.

Invariant: the instants of a timetable are one ascending sequence that depends on nothing else: not on when, by whom or
from where on they are asked for. So a new owner of a schedule goes on exactly where the last one was.

Over changes of daylight-saving time, cron expressions of five fields are as Debian's cron has them: a time that is
skipped is due when the clock has jumped, one that comes twice is due the first time, and what is due every so many
minutes or hours is due by what has really passed. The calendar is the cronsim library's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import takewhile
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from fairlane.topics.errors import UsageError

LEAST_MS: Final = 1_000
"""The shortest period."""
MOST_MS: Final = 366 * 86_400_000
_WINDOW_MS: Final = 60_000
_HINT: Final = "Write five fields, as `0 9 * * 1-5`, or six with the seconds first"


class Timetable(Protocol):
    """The instants of one schedule, Unix ms."""

    def after(self, ms: int) -> int | None:
        """The first instant after a moment; None if there is none within fifty years."""

    def newest(self, after_ms: int, until_ms: int, limit: int) -> list[int]:
        """The instants after one moment and until another one, at most so many of the newest, ascending."""


class Period(NamedTuple):
    """Every so many milliseconds, counted from the beginning of 1970: whoever asks gets the same instants."""

    ms: int

    def after(self, ms: int) -> int:
        """See `Timetable`."""
        return (ms // self.ms + 1) * self.ms

    def newest(self, after_ms: int, until_ms: int, limit: int) -> list[int]:
        """See `Timetable`."""
        last = until_ms // self.ms * self.ms
        first = max(self.after(after_ms), last - (limit - 1) * self.ms)
        return list(range(first, last + 1, self.ms))


class Cron(NamedTuple):
    """A cron expression, by the clocks of a time zone."""

    expression: str
    zone: ZoneInfo

    def _after(self, ms: int) -> Iterator[int]:
        # Whoever never schedules anything need not load it.
        from cronsim import CronSim

        start = datetime.fromtimestamp(ms // 1000, UTC).astimezone(self.zone)
        for moment in CronSim(self.expression, start):
            found = round(moment.timestamp()) * 1000
            # Within an hour that comes twice, what was due the first time is before the second one.
            if found > ms:
                yield (ms := found)

    def after(self, ms: int) -> int | None:
        """See `Timetable`."""
        return next(self._after(ms), None)

    def newest(self, after_ms: int, until_ms: int, limit: int) -> list[int]:
        """See `Timetable`."""
        width_ms = _WINDOW_MS
        while True:
            from_ms = max(after_ms, until_ms - width_ms)
            found = deque(takewhile(until_ms.__ge__, self._after(from_ms)), maxlen=limit)
            if from_ms == after_ms or len(found) == limit:
                return list(found)
            width_ms *= 4


@lru_cache(maxsize=4_096)
def timetable(*, cron: str = "", every_ms: int = 0, tz: str = "UTC") -> Timetable:
    """The timetable of a definition.

    Args:
        cron: an expression of five fields, or six with the seconds first; "" where `every_ms` says it.
        every_ms: the period, milliseconds; 0 where `cron` says it.
        tz: name of the time zone that cron goes by, as `Europe/Berlin`.

    Raises:
        UsageError: it is none, or one that is never due.
    """
    if bool(cron) == bool(every_ms):
        raise UsageError("a schedule is due by a cron expression or by a period", "Give one of them, and not both")
    if every_ms:
        if not LEAST_MS <= every_ms <= MOST_MS:
            raise UsageError(f"a period of {every_ms / 1000:g} s is none", "Give seconds, from 1 up to a year")
        return Period(every_ms)
    found = Cron(cron, _zone(tz))
    from cronsim import CronSimError

    try:
        # From the beginning of a leap year on.
        is_ever = found.after(1_830_297_600_000) is not None
    except CronSimError as error:
        raise UsageError(f"{cron!r:.100} is no cron expression: {error}", _HINT) from None
    if not is_ever:
        raise UsageError(f"{cron!r:.100} is never due", _HINT)
    return found


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"{name!r:.100} is no time zone", "Give the name of one, as Europe/Berlin or UTC") from None
