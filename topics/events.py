"""What fairlane says about tasks and workers: the JSON of `<queue>.status` and `<queue>.workers`.

Invariant: only the settler writes status events, so an older one never wins over a newer one. Readers accept unknown
fields (a newer fairlane may add some) and refuse an unknown version; what they accept has numbers of 64 bits, so that
whoever adds them up or shows them need not look.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from fairlane.topics.held_back import HeldBack

State = Literal["pending", "running", "retrying", "completed", "failed", "cancelled", "expired"]
"""`pending` and `running` are never written: lanes, tiers and heartbeats tell them."""

TERMINAL: Final = frozenset({"completed", "failed", "cancelled", "expired"})

Reason = Literal[
    "max_attempts",
    "fatal",
    "rejected",
    "invalid_payload",
    "no_handler",
    "malformed",
    "expired",
    "worker_lost",
    "outbox_failed",
    "result_too_large",
    "killed",
]
"""Why a task is dead; the value of `fairlane-reason`."""


Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Real = Annotated[float, msgspec.Meta(ge=0, le=2.0**63)]

VERSION: Final = 1
"""Of status events and heartbeats: `v`. What may change without another one, docs/wire.md says."""

NO_RESULT: Final = msgspec.Raw(b"null")


class ErrorInfo(msgspec.Struct, frozen=True):
    """An exception as text: class name, message and traceback, each cut to a bounded length."""

    type: str
    message: str
    traceback: str = ""


class StatusEvent(msgspec.Struct, frozen=True, gc=False, tag_field="v", tag=VERSION):
    """The newest that is known of a task; key of the record is the task's id. Times are Unix ms, 0 is unknown."""

    id: str
    type: str
    state: State
    lane: str = ""
    attempt: Whole = 0
    max_attempts: Whole = 0
    enqueued_ms: Whole = 0
    started_ms: Whole = 0
    finished_ms: Whole = 0
    due_ms: Whole = 0
    worker: str = ""
    topic: str = ""
    partition: Whole = -1
    offset: Whole = -1
    trace_id: str = ""
    reason: str = ""
    error: ErrorInfo | None = None
    result: msgspec.Raw = NO_RESULT


class RunningTask(msgspec.Struct, frozen=True):
    """A task that has been running for more than half a second."""

    id: str
    type: str
    since_ms: Whole
    partition: str
    """`topic/partition` of the record it was read from."""
    offset: Whole


class Counters(msgspec.Struct, frozen=True):
    """Attempts that ended since the worker started."""

    completed: Whole = 0
    failed: Whole = 0
    retried: Whole = 0


class TypeTimes(msgspec.Struct, frozen=True):
    """Processing time of one task type over the last minute or so."""

    n: Whole
    mean_ms: Real
    p95_ms: Real


class Pool(msgspec.Struct, frozen=True):
    """The pool of processes that a worker is one of, as its supervisor sees it, where their number adapts.

    Attributes:
        name: of the pool.
        processes: how many it has.
        least: how many it always has.
        most: how many it has at most.
        reason: what it last decided, and why; "" before that.
        at_ms: when, Unix ms.
    """

    name: str
    processes: Whole
    least: Whole
    most: Whole
    reason: str = ""
    at_ms: Whole = 0


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself every second; key of the record is the worker. After five seconds it is gone."""

    v: Whole = VERSION
    worker: str
    host: str = ""
    pid: Whole = 0
    version: str = ""
    state: Literal["starting", "running", "draining", "stopped"] = "running"
    started_ms: Whole = 0
    at_ms: Whole = 0
    concurrency: Whole = 0
    running: Whole = 0
    utilisation: Real = 0.0
    buffered: Whole = 0
    delayed: Whole = 0
    partitions: tuple[str, ...] = ()
    counters: Counters = Counters()
    running_tasks: tuple[RunningTask, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    transactional_id: str = ""
    types: dict[str, TypeTimes] = {}
    limits: dict[str, Whole] = {}
    """How many attempts of a type may run at once now, of those whose concurrency adapts."""
    oldest_ms: Whole = 0
    """How long the oldest of the tasks has waited that are next in their lanes."""
    cpu: Real = 0.0
    """How much of a core the process has used since the last heartbeat; more than 1 if several at once."""
    pool: Pool | None = None
    weights: dict[str, Whole] = {}
    """The lanes that it reads, by topic, and the weight of each."""


class _Versioned(msgspec.Struct):
    v: int = 0


HEARTBEAT_GONE_MS: Final = 5_000
"""A worker whose newest heartbeat is older than this is gone."""

_status_decoder = msgspec.json.Decoder(StatusEvent)
_heartbeat_decoder = msgspec.json.Decoder(Heartbeat)
_version_decoder = msgspec.json.Decoder(_Versioned)
_encoder = msgspec.json.Encoder()

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for JSON that it cannot read: the latter two for text that is no UTF-8 and for deep nesting."""


def encode(event: StatusEvent | Heartbeat) -> bytes:
    """The JSON of an event."""
    return _encoder.encode(event)


def decode_status(value: bytes) -> StatusEvent | None:
    """The event, or None where the bytes are no status event of a version that is known (anybody can write a topic)."""
    try:
        return _status_decoder.decode(value)
    except UNREADABLE:
        return None


def is_newer(value: bytes) -> bool:
    """Whether the bytes are an event, or a heartbeat, of a version that only a newer fairlane knows."""
    try:
        return _version_decoder.decode(value).v > VERSION
    except UNREADABLE:
        return False


def decode_heartbeat(value: bytes) -> Heartbeat | None:
    """The heartbeat, or None where the bytes are no heartbeat of a version that is known."""
    try:
        beat = _heartbeat_decoder.decode(value)
    except UNREADABLE:
        return None
    return beat if beat.v == VERSION else None
