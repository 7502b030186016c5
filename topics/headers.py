"""Every header of a record, as one table: what it is called, who writes it, in which form, and what it means.

Invariant: all values are UTF-8 text, as in Apache's own dead-letter conventions (KIP-1191, KIP-1034). fairlane owns
the names of the groups TASK and LETTER and no others: any other header, also one that begins with `fairlane-` and is
not here, belongs to somebody else and travels with the record byte for byte. docs/wire.md shows this table, and a test
holds it to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Headers = Sequence[tuple[str, bytes | None]]
"""As Kafka has them: ordered, names may repeat (the last one counts), a value may be null."""


@dataclass(frozen=True)
class Header:
    """One row of the table.

    Attributes:
        name: as it is on the record.
        form: how its text is made.
        written_by: `producer` is any client, in any language.
        meaning: what it says.
    """

    name: str
    form: str
    written_by: str
    meaning: str


EVENT: Final = (
    Header("ce_specversion", "`1.0`", "producer", "version of CloudEvents; another one is not understood"),
    Header("ce_type", "text", "producer", "the task's type: names the handler"),
    Header("ce_id", "text", "producer", "the task's id; without it `topic/partition/offset` of the origin"),
    Header("ce_source", "URI reference", "producer", "who produced it"),
    Header("ce_time", "RFC 3339", "producer", "when it was enqueued; ignored where it is no such time"),
    Header("ce_partitionkey", "text", "producer", "the record's key again, as CloudEvents has it"),
    Header("content-type", "media type", "producer", "of the value; `application/json` where it is missing"),
    Header("traceparent", "W3C", "producer", "trace that the task continues; ignored where it is malformed"),
    Header("tracestate", "W3C", "producer", "vendors' part of it"),
    Header("ce_traceparent", "W3C", "producer", "read where there is no valid `traceparent`"),
    Header("ce_tracestate", "W3C", "producer", "its vendors' part"),
)
"""CloudEvents 1.0 over Kafka, binary mode, and W3C trace context. They are the producer's: no hop changes them."""

_BY_BOTH: Final = "producer, worker"

TASK: Final = (
    Header("fairlane-version", "`1`", "nobody", "version of these headers, 1 where it is missing; no other is read"),
    Header(
        "fairlane-priority", "number", _BY_BOTH, "level of its lane; read in a tier, in a lane the lane itself tells"
    ),
    Header("fairlane-lane", "topic", _BY_BOTH, "the lane that it belongs to; read in a tier, where it is required"),
    Header("fairlane-origin", "topic/partition/offset", "worker", "the record in which it was first enqueued"),
    Header("fairlane-type", "text", "worker", "its type, where the lane's default type gave it and the record none"),
    Header("fairlane-attempt", "number from 1", "worker", "number of its next attempt; 1 where it is missing"),
    Header("fairlane-max-attempts", "number", _BY_BOTH, "after how many attempts it is dead; 0: the handler's policy"),
    Header(
        "fairlane-worker-lost", "number", "worker", "how many workers, or children of theirs, died while they ran it"
    ),
    Header("fairlane-handbacks", "number", "worker", "how often a shutdown gave it back unfinished"),
    Header("fairlane-replays", "number", "replay", "how often it was replayed from the DLQ"),
    Header("fairlane-not-before-ms", "Unix ms", _BY_BOTH, "when it is due; 0: at once"),
    Header("fairlane-expires-ms", "Unix ms", _BY_BOTH, "when it is no longer worth a start; 0: never"),
    Header("fairlane-timeout-ms", "ms", _BY_BOTH, "how long one attempt may take; 0: the handler's setting"),
    Header(
        "fairlane-enqueued-ms", "Unix ms", "worker", "when it was enqueued, since Kafka's own time changes on a hop"
    ),
    Header("fairlane-first-failed-ms", "Unix ms", "worker", "when its first attempt failed"),
    Header("fairlane-unfit-since-ms", "Unix ms", "worker", "since when no worker was found that can run it"),
    Header("fairlane-traceparent", "W3C", "worker", "trace that its first attempt began, where its producer gave none"),
    Header("fairlane-reply-to", "topic:partition", _BY_BOTH, "where its producer waits for the result"),
)
"""The state of a task. Nothing is required of a producer; a bad value makes the record malformed."""

LINK: Final = (
    Header("fairlane-replay-of", "text", "replay", "id of the task that it runs again"),
    Header("fairlane-replay-origin", "topic/partition/offset", "replay", "the record in which that was first enqueued"),
    Header("fairlane-replay-job", "text", "replay", "the replay that it is of"),
)
"""On a task that `fairlane replay` made of an older one. No hop changes them."""

LETTER: Final = (
    Header("fairlane-reason", "word", "worker", "why it is dead: `max_attempts`, `malformed`, …"),
    Header("fairlane-error-type", "text", "worker", "class of the last exception"),
    Header("fairlane-error-message", "text, ≤ 2 KiB", "worker", "its message"),
    Header("fairlane-traceback", "text, ≤ 8 KiB", "worker", "its traceback, the end of it where it is longer"),
    Header("fairlane-original-topic", "topic", "worker", "topic of the record that is dead, a lane or a tier"),
    Header("fairlane-original-partition", "number", "worker", "its partition"),
    Header("fairlane-original-offset", "number", "worker", "its offset"),
    Header("fairlane-last-failed-ms", "Unix ms", "worker", "when it was given up"),
)
"""Only in the DLQ, with those of TASK; a replay takes them off."""

KIP_1191: Final = (
    Header("__dlq.errors.topic", "topic", "worker", "as `fairlane-original-topic`"),
    Header("__dlq.errors.partition", "number", "worker", "as `fairlane-original-partition`"),
    Header("__dlq.errors.offset", "number", "worker", "as `fairlane-original-offset`"),
    Header("__dlq.errors.group", "text", "worker", "consumer group of the worker"),
    Header("__dlq.errors.delivery.count", "number", "worker", "attempts, losses and handbacks together"),
    Header("__dlq.errors.message", "text, ≤ 2 KiB", "worker", "the error, or the reason where there was none"),
)
"""Apache Kafka's own names for dead letters, so that its tools show ours too."""

TABLE: Final = EVENT + TASK + LINK + LETTER + KIP_1191

OWN: Final = frozenset(header.name for header in TASK + LETTER)
"""Names that every hop writes anew; all others are carried."""

NUMBERS: Final = (
    ("fairlane-attempt", "attempt", 1),
    ("fairlane-max-attempts", "max_attempts", 0),
    ("fairlane-worker-lost", "worker_lost", 0),
    ("fairlane-handbacks", "handbacks", 0),
    ("fairlane-replays", "replays", 0),
    ("fairlane-not-before-ms", "not_before_ms", 0),
    ("fairlane-expires-ms", "expires_ms", 0),
    ("fairlane-timeout-ms", "timeout_ms", 0),
    ("fairlane-enqueued-ms", "enqueued_ms", 0),
    ("fairlane-first-failed-ms", "first_failed_ms", 0),
    ("fairlane-unfit-since-ms", "unfit_since_ms", 0),
)
"""Headers that are whole numbers: name, field of the Task, and the least value, which is also the default."""

MAX_DIGITS: Final = 15
"""Enough for a Unix time in ms until the year 33658, and exact in every language's numbers."""

MAX_NUMBER: Final = 10**MAX_DIGITS - 1
"""What is larger is written as this: a count that a producer set to the largest stays there, and can still be read."""

MAX_NAME: Final = 1_024
"""Longest id and type, in characters: both go into the key and the value of status events, which must always fit."""

MAX_TEXT_BYTES: Final = 4 * 1_024
"""Longest `ce_source` and `content-type`: what many records have in common is kept, a thousand of each."""

MAX_TRACESTATE: Final = 16 * 1_024
"""Longest tracestate that is passed on, in characters: 32 members of the longest that W3C allows."""

MAX_HEADERS: Final = 1_000
"""Of one record: each hop of it reads and writes them all."""

MAX_MESSAGE_BYTES: Final = 2 * 1_024
MAX_TRACEBACK_BYTES: Final = 8 * 1_024
