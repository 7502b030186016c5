"""Times as RFC 3339 text, which is what CloudEvents has, from and to Unix milliseconds.

Invariant: whatever is read or written is a moment, so a time without an offset from UTC is no time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


@lru_cache(maxsize=1_024)
def parse_ms(text: str) -> int | None:
    """Unix milliseconds of an RFC 3339 time, cut below the millisecond; None where it is none or before 1970."""
    try:
        moment = datetime.fromisoformat(text)
        ms = (moment - _EPOCH) // _MS
    except (ValueError, TypeError, OverflowError):
        return None
    return ms if ms >= 0 else None


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def format_ms(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds, as `2026-11-24T05:06:07.089Z`."""
    seconds, rest = divmod(ms, 1_000)
    return f"{_second(seconds)}.{rest:03d}Z"
