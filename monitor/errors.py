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
class MonitorUnreachable(FairlaneError):
    """No monitor answered at `url`."""

    exit_code: ClassVar[int] = 3
    url: str
    detail: str

    def __str__(self) -> str:
        return (
            f"no monitor answers at {self.url}: {self.detail}. `fairlane monitor serve` starts one; with "
            "--monitor-url '' Kafka itself is asked"
        )


@dataclass(eq=False)
class MonitorRefused(FairlaneError):
    """The monitor at `url` answered with `status`, which `title` and `detail` explain."""

    url: str
    status: int
    title: str
    detail: str = ""

    def __str__(self) -> str:
        what = f"the monitor at {self.url} refused ({self.status}): {self.title}"
        if self.status in (401, 403):
            return f"{what}. Set FAIRLANE_MONITOR_TOKEN to a secret of its FAIRLANE_MONITOR_TOKENS"
        return f"{what}. {self.detail}" if self.detail else what


@dataclass(eq=False)
class ReplayFailed(FairlaneError):
    """Of `asked` things, which are `what`, `done` were sent before Kafka refused; `code` is its name of the error."""

    done: int
    asked: int
    code: str
    detail: str = ""
    queue: str = ""
    job: str = ""
    what: str = "letters"
    command: str = "fairlane dlq replay"

    def __str__(self) -> str:
        # A commit that nobody answered may have succeeded: the audit knows, and whoever goes on asks it first.
        return (
            f"{self.done} of {self.asked} {self.what} were replayed, then Kafka refused: {self.code} ({self.detail}). "
            "The others are not lost, and nothing is sent twice: go on with "
            f"`{self.command} --resume {self.job} --queue {self.queue}`"
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


@dataclass(eq=False)
class AuditUnreadable(FairlaneError):
    """A transaction that somebody holds open in `topic` hid what is behind it for `timeout_s` seconds."""

    topic: str
    timeout_s: float

    def __str__(self) -> str:
        return (
            f"{self.topic} cannot be read to its end: a transaction has been open in it for more than "
            f"{self.timeout_s:g} s, so which letters were replayed is not known. Nothing was done; try again when it "
            "has ended (Kafka ends it after its transaction.timeout.ms), or allow more time with --timeout"
        )


@dataclass(eq=False)
class JobUnknown(FairlaneError):
    """The audit of `queue` has no job `job`."""

    exit_code: ClassVar[int] = 5
    queue: str
    job: str

    def __str__(self) -> str:
        return f"queue {self.queue!r} has no job {self.job!r}. `fairlane audit --queue {self.queue}` lists them"


@dataclass(eq=False)
class LettersUnfit(FairlaneError):
    """`count` of the letters cannot be sent as they would be; `problems` says of some which and why."""

    count: int
    problems: tuple[str, ...]

    def __str__(self) -> str:
        more = f"; and {self.count - len(self.problems)} more" if self.count > len(self.problems) else ""
        return (
            f"{self.count} of the letters would not do, and none was sent: {'; '.join(self.problems)}{more}. "
            "Choose others or change the edit; --skip-unfit sends the rest"
        )


@dataclass(eq=False)
class PurgeFailed(FairlaneError):
    """Of the dead letters `done` were purged before Kafka refused; `code` is Kafka's name of the error."""

    done: int
    code: str
    detail: str = ""

    def __str__(self) -> str:
        return (
            f"{self.done} letters were purged, then Kafka refused: {self.code} ({self.detail}). "
            "The others are untouched: run the same command again"
        )


class QuestionTooWide(FairlaneError):
    """What was asked of the store took longer than `timeout_s` seconds."""

    timeout_s: float

    def __str__(self) -> str:
        return f"the store did not answer within {self.timeout_s:g} s. Ask for less: a state, a type, or a shorter time"


@dataclass(eq=False)
class CursorInvalid(FairlaneError):
    """A cursor that this monitor did not give."""

    exit_code: ClassVar[int] = 2

    def __str__(self) -> str:
        return "the cursor is none of this monitor's. Leave it out to begin at the first page"
