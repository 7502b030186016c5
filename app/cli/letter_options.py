"""The options that say which dead letters: the same for every command that takes letters.

Invariant: an option means the same everywhere, since one dataclass declares them all and makes one filter of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Concatenate, Final

import typer

from fairlane.cli.durations import parse_duration_s
from fairlane.cli.option_set import takes
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.topics import rfc3339
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import UsageError
from fairlane.topics.names import QueueNames

_NUMBER: Final = re.compile(r"[0-9]{1,19}")
_ATTEMPTS: Final = re.compile(r"([0-9]{1,9})?(\.\.)?([0-9]{1,9})?")
_LEVEL: Final = re.compile(r"p?([0-9]{1,9})")


def _option(name: str, metavar: str, told: str) -> Any:
    return typer.Option(f"--{name}", metavar=metavar, help=told)


@dataclass(frozen=True)
class FilterOptions:
    """What was said of which letters."""

    task_id: Annotated[str, _option("task-id", "ID", "Only letters of this task.")] = ""
    task_type: Annotated[str, _option("type", "TYPE", "Only letters of this task type.")] = ""
    reason: Annotated[str, _option("reason", "REASON", "Only letters of this reason, such as max_attempts.")] = ""
    error: Annotated[str, _option("error", "TEXT", "Only with this in `ErrorType: message`, in any case.")] = ""
    error_regex: Annotated[str, _option("error-regex", "REGEX", "Only where this finds something in it.")] = ""
    lane: Annotated[str, _option("lane", "LANE", "Only of this lane: its level (5, p5) or its topic.")] = ""
    key: Annotated[str | None, _option("key", "KEY", "Only with this key.")] = None
    since: Annotated[str, _option("since", "TIME", "Only what died since: 2h ago, or 2026-11-24T05:00:00Z.")] = ""
    until: Annotated[str, _option("until", "TIME", "Only what died before: 2h ago, or a time.")] = ""
    attempts: Annotated[str, _option("attempts", "N", "Only after so many attempts: 3, 3.. or 2..5.")] = ""
    group: Annotated[str, _option("group", "GROUP", "Only of this group, as `dlq groups` names it.")] = ""

    def filter(self, names: QueueNames, letters: Sequence[str] = (), *, replayed: bool = False) -> LetterFilter:
        """The filter that was said.

        Args:
            names: of the queue.
            letters: places that were named, as partition/offset.
            replayed: whether those that were replayed are meant too.

        Raises:
            UsageError: a value is not of its form.
        """
        at_least, at_most = _attempts(self.attempts)
        return LetterFilter(
            places=places(names, letters),
            task_id=self.task_id,
            type=self.task_type,
            reason=self.reason,
            error=self.error,
            error_regex=self.error_regex,
            lane=lane_topic(names, self.lane),
            key=self.key,
            since_ms=moment_ms(self.since, "--since"),
            until_ms=moment_ms(self.until, "--until"),
            attempts_min=at_least,
            attempts_max=at_most,
            group=self.group,
            replayed=replayed,
        )


def takes_filter(command: Callable[Concatenate[FilterOptions, ...], None]) -> Callable[..., None]:
    """Give a command all these options; it is called with them as its first argument."""
    return takes(FilterOptions, command)


def places(names: QueueNames, letters: Sequence[str]) -> frozenset[str]:
    """Full names of letters: `3/17` is `shop.dlq/3/17`.

    Raises:
        UsageError: one is no letter of the queue.
    """
    found = set()
    for letter in letters:
        parts = letter.removeprefix(f"{names.dlq}/").split("/")
        if len(parts) != 2 or not all(map(_NUMBER.fullmatch, parts)):
            raise UsageError(f"{letter!r} is no letter of queue {names.queue!r}", "Say partition/offset: 3/17")
        found.add(f"{names.dlq}/{int(parts[0])}/{int(parts[1])}")
    return frozenset(found)


def _attempts(text: str) -> tuple[int, int]:
    match = _ATTEMPTS.fullmatch(text)
    if match is None or (match[2] and not (match[1] or match[3])) or (match[3] and not match[2]):
        raise UsageError(f"--attempts {text!r} is no number of attempts", "Write 3, 3.., ..3 or 2..5")
    least, most = int(match[1] or 0), int(match[3] or 0)
    return (least, most) if match[2] else (least, least)


def lane_topic(names: QueueNames, text: str) -> str:
    """The topic of a lane as it is said on a command line: its level (5, p5) or its topic."""
    match = _LEVEL.fullmatch(text)
    return names.lane(int(match[1])) if match else text


def moment_ms(text: str, option: str) -> int:
    """A moment as it is said on a command line: a time, or how long ago; 0 where nothing was said. Unix ms.

    Raises:
        UsageError: it is neither.
    """
    if not text:
        return 0
    at_ms = rfc3339.parse_ms(text)
    if at_ms is None:
        at_ms = now_ms() - int(parse_duration_s(text, option) * 1_000)
    return max(1, at_ms)
