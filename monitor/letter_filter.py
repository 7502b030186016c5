"""Which dead letters somebody means: one filter for listing, grouping, replaying and purging.

Invariant: no I/O. A letter fits if it fits all that is said, and equal filters are equal text, so that a job can be
named after its filter.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from fairlane.monitor.letter import Letter
from fairlane.monitor.letter_groups import group_of
from fairlane.topics.errors import UsageError
from fairlane.topics.events import UNREADABLE


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which letters: those that fit all that is said; what is empty, 0 or None says nothing.

    Attributes:
        places: only these, each `topic/partition/offset`.
        task_id: only of this task.
        type: only of this task type.
        reason: only of this reason, such as `max_attempts`.
        error: only where this is in `ErrorType: message`, in capitals or not.
        error_regex: only where this regular expression finds something in `ErrorType: message`.
        lane: only of this lane: its topic.
        key: only with this key, as text.
        since_ms: only those that came into the DLQ then or later, Unix ms.
        until_ms: only those that came before, Unix ms.
        attempts_min: only after at least so many attempts.
        attempts_max: only after at most so many attempts.
        group: only of this group, by its id.
        replayed: those that were put back already too.

    Raises:
        UsageError: the regular expression is none.
    """

    places: frozenset[str] = frozenset()
    task_id: str = ""
    type: str = ""
    reason: str = ""
    error: str = ""
    error_regex: str = ""
    lane: str = ""
    key: str | None = None
    since_ms: int = 0
    until_ms: int = 0
    attempts_min: int = 0
    attempts_max: int = 0
    group: str = ""
    replayed: bool = False

    def __post_init__(self) -> None:
        try:
            _compiled(self.error_regex)
        except re.error as error:
            raise UsageError(
                f"{self.error_regex!r} is no regular expression: {error}", "Python's re says how they are written"
            ) from None

    @property
    def chooses(self) -> bool:
        """Whether it says anything, so that it does not mean every letter."""
        return msgspec.structs.replace(self, replayed=False) != LetterFilter()

    def fits(self, letter: Letter) -> bool:
        """Whether the letter is one of them, dealt with or not."""
        return (
            (not self.places or letter.place in self.places)
            and (not self.task_id or letter.task_id == self.task_id)
            and (not self.type or letter.type == self.type)
            and (not self.reason or letter.reason == self.reason)
            and (not self.lane or self.lane == (letter.lane or (letter.original.topic if letter.original else "")))
            and (self.key is None or letter.record.key == self.key.encode("utf-8", "replace"))
            and self._in_time(letter.record.timestamp_ms)
            and letter.attempt >= self.attempts_min
            and (not self.attempts_max or letter.attempt <= self.attempts_max)
            and self._has_error(letter.error)
            and (not self.group or group_of(letter) == self.group)
        )

    def _in_time(self, at_ms: int) -> bool:
        return at_ms >= self.since_ms and (not self.until_ms or at_ms < self.until_ms)

    def _has_error(self, text: str) -> bool:
        if self.error and self.error.casefold() not in text.casefold():
            return False
        return not self.error_regex or _compiled(self.error_regex).search(text) is not None

    def to_json(self) -> str:
        """What is said, as JSON; the same for equal filters."""
        return _encoder.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> LetterFilter:
        """Read what `to_json` wrote.

        Raises:
            UsageError: it is no filter.
        """
        try:
            return _decoder.decode(text)
        except UNREADABLE as error:
            raise UsageError(
                f"{text[:200]!r} is no filter of letters: {error}", "A newer fairlane may know it"
            ) from None


_encoder: Final = msgspec.json.Encoder(order="sorted")
_decoder: Final = msgspec.json.Decoder(LetterFilter)


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
