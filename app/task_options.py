"""How one task is enqueued: urgency, delay, limits, id.

Invariant: options are checked where they are said, in full, so that a task that reaches Kafka is one that a worker can
run. Relative times (`delay_s`, `expires_s`) count from the moment of the enqueue, not from when they were said.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypedDict

from fairlane.topics.errors import UsageError
from fairlane.topics.headers import MAX_NAME
from fairlane.topics.names import Lane

MAX_DELAY_S: Final = 366 * 86_400.0
"""A year: longer than that is a plan, not a task, and the topics that carry it would hardly stay the same."""

MAX_S: Final = 10 * MAX_DELAY_S


class Options(TypedDict, total=False):
    """What `options(…)` and `enqueue("type", payload, …)` take, all of it optional."""

    priority: int
    """Level of the lane; the highest is the most urgent."""
    key: str | bytes
    """Tasks of one key are in one partition."""
    delay_s: float
    """How long until the task is due, seconds."""
    max_attempts: int
    """After how many attempts it is dead; else the handler's policy says."""
    timeout_s: float
    """How long one attempt may take, seconds; else the handler says."""
    expires_s: float
    """How long until it is not worth a start any more, seconds."""
    id: str
    """The task's id and idempotency key; a fresh UUIDv7 by default."""
    reply: bool
    """Whether the worker shall send the result to this process directly, rather than this process look for it."""


NAMES: Final = tuple(Options.__annotations__)


@dataclass(frozen=True, slots=True)
class Terms:
    """Checked options, each with its value.

    Attributes:
        lane: which the task belongs to; its level is the priority.
        key: of the record.
        delay_s: seconds from the enqueue until it is due; 0 is at once.
        max_attempts: 0 leaves it to the handler.
        timeout_s: seconds; 0 leaves it to the handler.
        expires_s: seconds from the enqueue; 0 is never.
        id: "" has one made.
        reply: whether the result is to be sent to this process.
    """

    lane: Lane
    key: bytes | None = None
    delay_s: float = 0.0
    max_attempts: int = 0
    timeout_s: float = 0.0
    expires_s: float = 0.0
    id: str = ""
    reply: bool = False

    def with_options(self, options: Mapping[str, Any], lanes: Sequence[Lane]) -> Terms:
        """The same with these options in place of those that were there.

        Args:
            options: as in `Options`; those that are None count as not given.
            lanes: of the queue.

        Raises:
            UsageError: an option does not exist, or its value is none that it can have.
        """
        given = {name: value for name, value in options.items() if value is not None}
        unknown = [name for name in given if name not in NAMES]
        if unknown:
            near = difflib.get_close_matches(unknown[0], NAMES, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(NAMES)}"
            raise UsageError(f"there is no option {unknown[0]!r}", hint)
        checked: dict[str, Any] = {}
        if "priority" in given:
            checked["lane"] = lane_of(given.pop("priority"), lanes)
        for name, value in given.items():
            checked[name] = _CHECKS[name](name, value)
        terms = replace(self, **checked)
        if 0 < terms.expires_s <= terms.delay_s:
            raise UsageError(
                f"expires_s={terms.expires_s:g} is over before delay_s={terms.delay_s:g} is",
                "Both count from the enqueue: let it expire later",
            )
        return terms

    def described(self) -> str:
        """Those that say something, as they are written in code."""
        said = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "lane"}
        given = [f"{name}={value!r}" for name, value in said.items() if value]
        return ", ".join([f"priority={self.lane.level}", *given])


def lane_of(priority: Any, lanes: Sequence[Lane]) -> Lane:
    """The lane of a priority.

    Raises:
        UsageError: no lane has that level.
    """
    for lane in lanes:
        if lane.level == priority and not isinstance(priority, bool):
            return lane
    levels = ", ".join(str(lane.level) for lane in lanes)
    raise UsageError(f"no lane has priority {priority!r}", f"There are {levels}; the highest is the most urgent")


def _seconds(name: str, value: Any, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = "A timedelta has total_seconds()" if hasattr(value, "total_seconds") else "Give a number"
        raise UsageError(f"{name}={value!r} is no number of seconds", hint)
    if not (least <= value <= most and math.isfinite(value)) or (name != "delay_s" and value == 0):
        above = "from 0" if name == "delay_s" else "above 0"
        raise UsageError(
            f"{name}={value!r} is out of range", f"Give seconds {above} up to {most:g} ({most / 86_400:g} days)"
        )
    return float(value)


def _delay(name: str, value: Any) -> float:
    return _seconds(name, value, 0.0, MAX_DELAY_S)


def _limit(name: str, value: Any) -> float:
    return _seconds(name, value, 0.0, MAX_S)


def _attempts(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise UsageError(f"{name}={value!r} is no number of attempts", "1 runs it once, without a retry")
    return value


def _key(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    if not isinstance(value, bytes) or not value:
        raise UsageError(f"{name}={value!r} is no key", "Give text or bytes, at least one character")
    return value


def _id(name: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        shown = value if not isinstance(value, str) or len(value) <= 60 else value[:60] + "…"
        raise UsageError(f"{name}={shown!r} is no task id", f"Give 1 to {MAX_NAME} printable characters")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{name}={value!r} is neither True nor False")
    return value


_CHECKS: Final = {
    "key": _key,
    "delay_s": _delay,
    "max_attempts": _attempts,
    "timeout_s": _limit,
    "expires_s": _limit,
    "id": _id,
    "reply": _flag,
}
