"""A number that may be a range: `8`, or `2..8` where fairlane finds out itself how many do.

Invariant: both ends are whole numbers from 1 on, and a range has room between them; one without is a plain number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import PydanticCustomError

_FORM: Final = re.compile(r"\s*(\d{1,9})\s*(?:\.\.\s*(\d{1,9})\s*)?")


@dataclass(frozen=True)
class Between:
    """From `least` to `most`, both included."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}..{self.most}"


Many = int | Between
"""So many, or as many as it takes within bounds."""


def parse(value: Any) -> Many:
    """What a setting says.

    Raises:
        PydanticCustomError: it is neither a number from 1 on nor a range of them.
    """
    if isinstance(value, Between):
        value = str(value)
    match = _FORM.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if match is None:
        raise _refused(f"{value!r} is neither a number nor a range; say 4, or 2..8")
    least, most = int(match[1]), int(match[2] or match[1])
    if least < 1:
        raise _refused(f"{value!r} is less than one; say 1 or more")
    if most < least:
        raise _refused(f"{value!r} ends before it begins; say {most}..{least}")
    return Between(least, most) if most > least else most


def most_of(many: Many) -> int:
    """How many there may be."""
    return many.most if isinstance(many, Between) else many


def least_of(many: Many) -> int:
    """How many there are at least."""
    return many.least if isinstance(many, Between) else many


def _refused(message: str) -> PydanticCustomError:
    return PydanticCustomError("many", message)
