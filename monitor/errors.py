"""What goes wrong while a queue is watched; part of the tree of fairlane.topics.errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fairlane.topics.errors import FairlaneError


@dataclass(eq=False)
class ReadIncomplete(FairlaneError):
    """Reading ended after `timeout_s` seconds and `records` records, before the end of `partitions` partitions."""

    records: int
    partitions: int
    timeout_s: float

    def __str__(self) -> str:
        return (
            f"there was more to read than {self.timeout_s:g} s were enough for: {self.records:,} records were read and "
            f"{self.partitions} partitions not to their end. Allow more time, as with --timeout {self.timeout_s * 6:g}"
        )


@dataclass(eq=False)
class ReplayFailed(FairlaneError):
    """Of `asked` dead letters `done` were put back before Kafka refused; `code` is Kafka's name of the error."""

    done: int
    asked: int
    code: str
    detail: str = ""

    def __str__(self) -> str:
        return (
            f"{self.done} of {self.asked} letters were replayed, then Kafka refused: {self.code} ({self.detail}). "
            "The others are untouched: run the same command again"
        )


@dataclass(eq=False)
class LetterUnknown(FairlaneError):
    """The DLQ of `queue` has no such letter; `which` says what was asked for."""

    exit_code: ClassVar[int] = 5
    queue: str
    which: str

    def __str__(self) -> str:
        which = f" {self.which}" if self.which else " that fits"
        return (
            f"queue {self.queue!r} has no dead letter{which}. `fairlane dlq list --all --queue {self.queue}` lists them"
        )


@dataclass(eq=False)
class LetterReplayed(FairlaneError):
    """All `letters` that were asked for were put back before; the newest is `letter`, by `who`, at the time `when`."""

    letter: str
    who: str
    when: str
    letters: int = 1

    def __str__(self) -> str:
        more = f" (and {self.letters - 1} others too)" if self.letters > 1 else ""
        return (
            f"letter {self.letter} was replayed already, by {self.who} at {self.when}{more}. "
            "Say --again to replay it once more"
        )


@dataclass(eq=False)
class StoreBroken(FairlaneError):
    """SQLite cannot go on with the file at `path`; `detail` is what it says."""

    path: str
    detail: str

    def __str__(self) -> str:
        return f"the store {self.path} is broken ({self.detail}). Delete it: it is filled again from Kafka"
