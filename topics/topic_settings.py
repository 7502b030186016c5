"""The settings of a queue's topics, one by one: the value, why it is that, and how bad another value is.

Invariant: every value that fairlane asks of Kafka for a topic is in a table here with its reason. `essential` settings
carry the queue's promises; the others only make it cheaper, and a cluster that forbids them gets a queue without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["broken", "warning"]
"""`broken`: would lose data or cannot work, so a worker refuses to start. `warning`: works, not as it should."""

Rule = Literal["equal", "at least", "at most", "policy"]
"""What counts as declared: this value; it or more (-1 is more than anything); it or less; this set of policies."""

Role = Literal[
    "lane", "foreign lane", "tier", "dlq", "status", "replies", "control", "audit", "events", "state", "workers"
]

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
STATUS_KEPT_MS: Final = 7 * DAY_MS
REPLIES_KEPT_MS: Final = HOUR_MS
HEARTBEATS_KEPT_MS: Final = HOUR_MS

DEFAULT_MAX_MESSAGE_BYTES: Final = 1_048_588
"""What a lane takes: Kafka's own default for a batch, which no client exceeds unless it was told to."""

HOP_HEADROOM_BYTES: Final = 131_072
"""What tiers and the DLQ take on top: a hop adds headers (origin, attempt, and for the DLQ a cut traceback, twice)."""


@dataclass(frozen=True)
class Setting:
    """One configuration of a topic.

    Attributes:
        name: Kafka's name of it.
        value: what it is made with, as Kafka writes it.
        why: the reason, as a sentence that a check shows when the value differs.
        rule: what else counts as declared.
        severity: how bad a value outside of the rule is.
        essential: whether a queue is not made without it.
    """

    name: str
    value: str
    why: str
    rule: Rule = "equal"
    severity: Severity = "warning"
    essential: bool = True


def _policy(value: str, why: str, severity: Severity = "warning") -> Setting:
    return Setting("cleanup.policy", value, why, "policy", severity)


def _kept(value_ms: int, why: str) -> Setting:
    return Setting("retention.ms", str(value_ms), why, "at least")


def _rolled(value_ms: int, why: str) -> Setting:
    return Setting("segment.ms", str(value_ms), why, "at most", essential=False)


def _size(value_bytes: int, why: str) -> Setting:
    return Setting("max.message.bytes", str(value_bytes), why, "at least")


_NOT_BY_AGE: Final = (
    _policy("delete", "compaction would delete a task when another one of the same key arrives", "broken"),
    Setting("retention.ms", "-1", "tasks that wait longer would be deleted unseen", "equal", "broken"),
    Setting("retention.bytes", "-1", "tasks would be deleted unseen once a partition is that big", "equal", "broken"),
)

_BROKER_TIME: Final = Setting(
    "message.timestamp.type",
    "LogAppendTime",
    "delays, ages and trimming go by the broker's clock, whatever the clocks of the clients say",
)

_TRIMMED: Final = _rolled(
    DAY_MS, "the disk of settled tasks comes back a whole segment at a time, so a segment spans a day at most"
)

_CLEANED_EARLY: Final = Setting(
    "min.cleanable.dirty.ratio",
    "0.1",
    "it is read from its beginning, so it is compacted as soon as a tenth of it is outdated",
    "at most",
    essential=False,
)

_UNCLEAN: Final = Setting(
    "unclean.leader.election.enable",
    "false",
    "a replica that had fallen behind could become the leader, and acknowledged records would be gone",
    essential=False,
)


def in_sync(replication: int) -> Setting:
    """How many replicas have a record before it counts as acknowledged: 2 of 3 survive the loss of a broker."""
    return Setting(
        "min.insync.replicas",
        "2" if replication >= 3 else "1",
        "a record that only one broker has is lost with it",
        "at least",
    )


def settings_of(role: Role, replication: int, max_message_bytes: int) -> tuple[Setting, ...]:
    """The settings of a topic of this role.

    Args:
        role: what the topic is to the queue.
        replication: how many brokers have a copy of it.
        max_message_bytes: the largest batch that lanes take, bytes.
    """
    if role == "foreign lane":
        return ()
    return (*_by_role(role, max_message_bytes), in_sync(replication), _UNCLEAN)


def _by_role(role: Role, max_message_bytes: int) -> tuple[Setting, ...]:
    hop = max_message_bytes + HOP_HEADROOM_BYTES
    match role:
        case "lane":
            size = _size(max_message_bytes, "larger tasks are refused when they are enqueued")
            return (*_NOT_BY_AGE, _BROKER_TIME, size, _TRIMMED)
        case "tier":
            size = _size(hop, "a task that fits a lane must fit here too, with the headers that a retry adds")
            return (*_NOT_BY_AGE, _BROKER_TIME, size, _TRIMMED)
        case "dlq":
            size = _size(hop, "a task that fits a lane must fit here too, with the headers that say why it is dead")
            return (*_NOT_BY_AGE, _BROKER_TIME, size)
        case "status":
            return (
                _policy("compact,delete", "only the newest event of a task counts, and an old task is forgotten"),
                _kept(STATUS_KEPT_MS, "status and result of a task can be asked for that long (7 days)"),
                _BROKER_TIME,
                _size(max_message_bytes, "a result is written here"),
                _rolled(DAY_MS, "events are forgotten a whole segment at a time, so within a day of their time"),
            )
        case "replies":
            return (
                _policy("delete", "compaction would keep replies that nobody waits for any more"),
                _kept(REPLIES_KEPT_MS, "producers that wait read at once; an hour bridges a lost connection"),
                _BROKER_TIME,
                _size(max_message_bytes, "a result is written here"),
                _rolled(HOUR_MS // 6, "replies are deleted a whole segment at a time"),
            )
        case "control":
            return (
                _policy("compact", "deletion by age would forget a pause, a limit or a cancellation", "broken"),
                _rolled(HOUR_MS, "only segments that are closed are compacted, and every worker reads all at start"),
                _CLEANED_EARLY,
            )
        case "audit":
            return (
                _policy("delete", "compaction would drop all but the last action on a letter"),
                _kept(-1, "who did what is kept, and a letter whose replay is forgotten could be replayed again"),
                Setting("retention.bytes", "-1", "who did what is kept", "at least"),
                _BROKER_TIME,
            )
        case "events":
            size = _size(max_message_bytes, "larger events are refused when they are written")
            return (*_NOT_BY_AGE, _BROKER_TIME, size, _TRIMMED)
        case "state":
            return (
                _policy("compact", "deletion by age would forget schedules, and how far they are", "broken"),
                _rolled(HOUR_MS, "only segments that are closed are compacted, and every new owner reads all"),
                _CLEANED_EARLY,
            )
        case "workers":
            return (
                _policy("compact,delete", "only the newest heartbeat of a worker counts, and gone workers go"),
                _kept(HEARTBEATS_KEPT_MS, "a worker is gone after seconds; an hour shows who was here"),
                _BROKER_TIME,
                _rolled(HOUR_MS // 12, "a heartbeat a second and worker adds up until its segment is closed"),
                _CLEANED_EARLY,
            )
        case _:
            raise AssertionError(role)
