"""One way in which a topic is not as declared, as a value: what, how bad, why it matters, and what mends it.

Invariant: it is data. Everything that is said of it to a person is made from its fields here, so that a log line, an
error and a table say the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from fairlane.topics.topic_settings import Severity

Kind = Literal["missing", "forbidden", "config", "partitions", "replication", "undeclared", "offline", "unreadable"]

_SHOWN: Final = 3
"""How many topics a line names before it counts the rest."""


@dataclass(frozen=True)
class Difference:
    """One way in which a topic is not as declared.

    Attributes:
        severity: `broken` or `warning`.
        kind: what is different.
        topic: the topic; for `unreadable`, the first one of them.
        what: the property in a person's words; of `config` the name of the setting.
        declared: what it should be; of `config` the value to set.
        found: what it is.
        why: what follows from it.
        command: what mends it, to be typed into a shell.
    """

    severity: Severity
    kind: Kind
    topic: str
    what: str
    declared: str
    found: str
    why: str
    command: str

    @property
    def sentence(self) -> str:
        """What differs, without the topic: `retention.ms is 1000, not -1`."""
        if self.kind in ("config", "partitions", "replication"):
            return f"{self.what} is {self.found}, not {self.declared}"
        return f"{self.what} is {self.found}"

    def __str__(self) -> str:
        return str(Group((self,)))


@dataclass(frozen=True)
class Group:
    """Differences that are alike in everything but the topic; never empty."""

    differences: tuple[Difference, ...]

    @property
    def severity(self) -> Severity:
        """`broken` or `warning`."""
        return self.differences[0].severity

    @property
    def sentence(self) -> str:
        """What differs, without the topics."""
        return self.differences[0].sentence

    @property
    def why(self) -> str:
        """What follows from it."""
        return self.differences[0].why

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics, in the order of the declaration."""
        return tuple(difference.topic for difference in self.differences)

    @property
    def commands(self) -> tuple[str, ...]:
        """What mends them, each command once."""
        return tuple(dict.fromkeys(difference.command for difference in self.differences))

    def __str__(self) -> str:
        more = len(self.topics) - _SHOWN
        topics = ", ".join(self.topics[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        return f"{topics}: {self.sentence} ({self.why}); mend it: {' ; '.join(self.commands[:_SHOWN])}"


def grouped(differences: Iterable[Difference]) -> tuple[Group, ...]:
    """Like differences together, in the order of their first ones; each is one line of a log."""
    groups: dict[tuple[str, ...], list[Difference]] = {}
    for difference in differences:
        key = (difference.severity, difference.kind, difference.sentence, difference.why)
        groups.setdefault(key, []).append(difference)
    return tuple(Group(tuple(alike)) for alike in groups.values())
