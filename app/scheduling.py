"""How an app says that tasks of it are due by the clock: from `@app.schedule(…)` to the definition that owners keep.

Invariant: a definition is checked where it is said, in full: its timetable, its name, and that its arguments fit the
function. What a schedule enqueues is what `task.options(…).enqueue(…)` would, with the id of its instant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from fairlane.task_definition import Enqueues
from fairlane.task_options import Options
from fairlane.topics.errors import UsageError
from fairlane.topics.schedules import JITTER_MAX_MS, PAYLOAD_MAX_BYTES, Misfire, Schedule, checked

_OF_AN_ENQUEUE: Final = {
    "id": "Its tasks have the ids of their instants",
    "delay_s": "Say when it is due, or jitter_s",
    "reply": "Nobody waits for its results: ask for them by the ids of its tasks",
}


class Every(NamedTuple):
    """A period, seconds: what `every(30)` returns."""

    seconds: float


def every(seconds: float) -> Every:
    """Every so many seconds, counted from the beginning of 1970, so that a restart moves nothing.

    Args:
        seconds: from 1 up to a year.
    """
    return Every(seconds)


def schedule_of(
    when: str | Every,
    call: Enqueues[..., Any],
    task_type: str,
    *,
    name: str,
    tz: str,
    misfire: Misfire,
    jitter_s: float,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Schedule:
    """The definition of a schedule.

    Args:
        when: a cron expression, or a period.
        call: the task, with its options.
        task_type: its type.
        name: of the schedule; the type by default.
        tz: time zone that the expression goes by.
        misfire: what becomes of instants that nobody was there for.
        jitter_s: its tasks are due up to so much later, seconds.
        args: of the function.
        kwargs: of the function.

    Raises:
        UsageError: it is none.
        PayloadError: the arguments do not fit the function.
    """
    made = call.call(*args, **kwargs)
    if len(made.payload) > PAYLOAD_MAX_BYTES:
        raise UsageError(
            f"the payload of schedule {name or task_type!r} has {len(made.payload)} bytes, and may have "
            f"{PAYLOAD_MAX_BYTES}",
            "Give it a reference to what it needs",
        )
    if misfire not in ("skip", "latest", "all"):
        raise UsageError(f"misfire={misfire!r} is none", "Say skip, latest or all")
    terms = made.terms
    return checked(
        Schedule(
            name=name or task_type,
            type=task_type,
            cron=when if isinstance(when, str) else "",
            every_ms=0 if isinstance(when, str) else period_ms(when.seconds),
            tz=tz,
            misfire=misfire,
            jitter_ms=jitter_ms(jitter_s),
            payload=made.payload,
            content_type=made.content_type,
            priority=terms.lane.level,
            key=terms.key,
            max_attempts=terms.max_attempts,
            timeout_ms=round(terms.timeout_s * 1000),
            expires_ms=round(terms.expires_s * 1000),
            source=made.source,
        )
    )


def period_ms(seconds: Any) -> int:
    """A period that is a number of seconds, milliseconds; whether a schedule may have it is not looked at.

    Raises:
        UsageError: it is no number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise UsageError(f"every({seconds!r}) is no period", "Give seconds, from 1 up to a year")
    return max(1, round(seconds * 1000))


def jitter_ms(seconds: Any) -> int:
    """A jitter, milliseconds.

    Raises:
        UsageError: it is none.
    """
    most_s = JITTER_MAX_MS / 1000
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= most_s:
        raise UsageError(f"jitter_s={seconds!r} is none", f"Give seconds, from 0 up to {most_s:g}")
    return round(seconds * 1000)


def check_options(options: Options) -> None:
    """Refuse options that only an enqueue has.

    Raises:
        UsageError: one of them is given.
    """
    for name, hint in _OF_AN_ENQUEUE.items():
        if name in options:
            raise UsageError(f"a schedule has no option {name!r}", hint)
