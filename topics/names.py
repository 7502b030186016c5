"""What the topics of a queue are called.

Invariant: every topic of a queue derives from its name here and nowhere else, so that any client in any language can
derive it too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from fairlane.topics.errors import UsageError

LEVELS: Final = (5, 4, 3, 2, 1)
"""The priority levels of a queue by default, the most urgent first."""

DEFAULT_LEVEL: Final = 3
DEFAULT_WEIGHTS: Final = {5: 16, 4: 8, 3: 4, 2: 2, 1: 1}
DEFAULT_PARTITIONS: Final = 12

_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_QUEUE_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,200}")


@dataclass(frozen=True, order=True)
class Tier:
    """One fixed delay: all records of its topic wait equally long, so FIFO in it is due order.

    Attributes:
        delay_ms: how long a record stays in it, milliseconds.
        name: as in the topic's name: `5s`, `1m`, `2h`.
    """

    delay_ms: int
    name: str = field(compare=False)

    @classmethod
    def parse(cls, name: str) -> Tier:
        """The tier of a name such as `5s`.

        Raises:
            UsageError: the name is no whole number with one of the units s, m, h, d.
        """
        match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", name)
        if match is None:
            raise UsageError(f"{name!r} is no tier", "A tier is a whole number and a unit: 5s, 10m, 2h, 1d")
        return cls(delay_ms=int(match[1]) * _UNITS_MS[match[2]], name=name)


DEFAULT_TIERS: Final = tuple(Tier.parse(name) for name in ("1s", "5s", "1m", "10m", "2h", "1d"))


@dataclass(frozen=True)
class Lane:
    """One priority level: a topic that tasks are read from.

    Any topic can be a lane: naming an existing one (`orders`) makes its records tasks of `default_type`, with retries,
    tiers and a DLQ; its records need no headers.

    Attributes:
        topic: the topic that is read.
        level: how urgent it is; the highest level goes first.
        weight: its share of the work while other lanes wait too, relative to their weights; at least 1.
        default_type: the type of records that name none.
        start: where a consumer group without committed offsets begins. Foreign lanes must say it.
    """

    topic: str
    level: int
    weight: int
    default_type: str | None = None
    start: Literal["earliest", "latest"] = "earliest"

    def __post_init__(self) -> None:
        if self.weight < 1:
            raise UsageError(f"lane {self.topic!r} has weight {self.weight}", "A weight is a whole number from 1 on")
        if self.start not in ("earliest", "latest"):
            raise UsageError(f"lane {self.topic!r} starts at {self.start!r}", "Say start='earliest' or start='latest'")


@dataclass(frozen=True)
class QueueNames:
    """The names that derive from a queue's name.

    Raises:
        UsageError: the name has characters that a topic cannot have, or is too long to leave room for the suffixes.
    """

    queue: str

    def __post_init__(self) -> None:
        if not _QUEUE_NAME.fullmatch(self.queue) or self.queue in (".", ".."):
            raise UsageError(
                f"{self.queue!r} is no queue name", "Use 1 to 200 letters, digits, dots, dashes and underscores"
            )

    def lane(self, level: int) -> str:
        """The topic of a priority level."""
        return f"{self.queue}.p{level}"

    def tier(self, tier: Tier) -> str:
        """The topic of a fixed delay."""
        return f"{self.queue}.retry-{tier.name}"

    @property
    def dlq(self) -> str:
        """Dead letters: the record untouched, plus why."""
        return f"{self.queue}.dlq"

    @property
    def status(self) -> str:
        """The newest event of every task, with its result; compacted."""
        return f"{self.queue}.status"

    @property
    def replies(self) -> str:
        """Results for producers that wait."""
        return f"{self.queue}.replies"

    @property
    def control(self) -> str:
        """What operators ask of all workers."""
        return f"{self.queue}.control"

    @property
    def audit(self) -> str:
        """Who did what."""
        return f"{self.queue}.audit"

    @property
    def events(self) -> str:
        """What happens to entities that one worker owns at a time: schedules."""
        return f"{self.queue}.events"

    @property
    def state(self) -> str:
        """The newest state of each such entity: the changelog of its owner; compacted."""
        return f"{self.queue}.state"

    @property
    def workers(self) -> str:
        """Heartbeats."""
        return f"{self.queue}.workers"

    @property
    def group(self) -> str:
        """The consumer group of the queue's workers."""
        return f"fairlane-{self.queue}"

    def default_lanes(self) -> tuple[Lane, ...]:
        """The five lanes that a queue has unless it says otherwise, the most urgent first."""
        return tuple(Lane(self.lane(level), level, DEFAULT_WEIGHTS[level]) for level in LEVELS)

    def owns(self, lane: Lane) -> bool:
        """Whether the lane is a topic of this queue, rather than somebody else's."""
        return lane.topic == self.lane(lane.level)
