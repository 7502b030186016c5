"""Spans of time as people write them on a command line: `500ms`, `5s`, `1h30m`, `2d`, or plain seconds.

Invariant: what is read is a finite number of seconds, 0 or more; everything else is a usage error that shows the form.
"""

from __future__ import annotations

import re
from typing import Final

from fairlane.topics.errors import UsageError

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_PART: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]+)?)(ms|s|m|h|d)")
_PLAIN: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]+)?")


def parse_duration_s(text: str, option: str) -> float:
    """The seconds of a span of time.

    Args:
        text: as it was written.
        option: whose value it is, for the error.

    Raises:
        UsageError: it is not of the form.
    """
    compact = text.strip().lower()
    if _PLAIN.fullmatch(compact):
        return float(compact)
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise UsageError(f"{option} {text!r} is no span of time", "Write 500ms, 5s, 1h30m, 2d, or plain seconds")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
