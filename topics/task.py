"""The task: one unit of work as it travels through lanes, tiers and the DLQ.

Invariant: a Task is frozen. A hop to a tier, to the DLQ or back makes a new one with `msgspec.structs.replace`, and the
bytes of key, value and foreign headers are carried as they were read.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from fairlane.topics.errors import MalformedRecord

Form = Literal["ours", "binary", "structured", "bare", "raw"]
"""How a record says that it is a task: CloudEvents in binary mode just as our own producers write them (`ours`: then no
headers are kept, since they follow from the other fields), or with any headers, or in structured mode, bare JSON, or
not at all (`raw`: the lane's default type made it one)."""

_ORIGIN: Final = re.compile(r"([a-zA-Z0-9._-]{1,249})/([0-9]{1,10})/([0-9]{1,19})")

MAX_PARTITION: Final = 2**31 - 1
MAX_OFFSET: Final = 2**63 - 1
"""The largest that Kafka has."""


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Topic, partition and offset of the record in which a task was first enqueued; it stays with it through every hop.

    What is unique is the origin, not the id: a client that sends one id twice has two tasks.
    """

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Read the form that `str` writes.

        Raises:
            MalformedRecord: it is not of the form topic/partition/offset.
        """
        match = _ORIGIN.fullmatch(text)
        partition, offset = (int(match[2]), int(match[3])) if match else (-1, -1)
        if match is None or partition > MAX_PARTITION or offset > MAX_OFFSET:
            raise MalformedRecord(f"fairlane-origin is {text[:100]!r}, not topic/partition/offset")
        return cls(match[1], partition, offset)


class Task(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One unit of work: the model of the brief, as fairlane carries it.

    Attributes:
        id: the idempotency key; a UUIDv7 where fairlane made it.
        type: names the handler.
        payload: the payload's bytes, JSON unless `content_type` says otherwise.
        content_type: media type of the payload.
        priority: level of its lane, the highest is the most urgent.
        attempt: number of the attempt that its next run is; the first is 1.
        max_attempts: after how many attempts it is dead; 0 leaves it to the handler's retry policy.
        worker_lost: how many workers, or child processes of theirs, died while they ran it.
        handbacks: how often a shutdown gave it back unfinished; costs no attempt.
        replays: how often it was replayed from the DLQ.
        not_before_ms: when it is due, Unix ms; 0 is at once.
        expires_ms: when it is no longer worth a start, Unix ms; 0 is never.
        timeout_ms: how long one attempt may take; 0 leaves it to the handler.
        enqueued_ms: when it was first enqueued, Unix ms.
        first_failed_ms: when its first attempt failed, Unix ms; 0 if none did.
        unfit_since_ms: since when no worker was found that can run it, Unix ms; 0 if the last one could.
        lane: topic of the lane that it belongs to, also while it is in a tier.
        reply_to: `topic:partition` where its producer waits, or "".
        origin: the record in which it was first enqueued; None before it is.
        source: `ce_source`.
        traceparent: W3C trace context that its attempts continue, or "".
        tracestate: W3C trace state, or "".
        own_trace: whether a worker began the trace, since its producer gave none; then a header of ours carries it.
        key: key of its record.
        form: how its record says that it is a task.
        value: value of its record, byte for byte (in structured and bare form the payload is a part of it).
        headers: headers of its record in order, without fairlane's own; they are written again at every hop. None are
            here where the form is `ours`.
    """

    id: str
    type: str
    payload: bytes
    content_type: str = "application/json"
    priority: int = 3
    attempt: int = 1
    max_attempts: int = 0
    worker_lost: int = 0
    handbacks: int = 0
    replays: int = 0
    not_before_ms: int = 0
    expires_ms: int = 0
    timeout_ms: int = 0
    enqueued_ms: int = 0
    first_failed_ms: int = 0
    unfit_since_ms: int = 0
    lane: str = ""
    reply_to: str = ""
    origin: Origin | None = None
    source: str = ""
    traceparent: str = ""
    tracestate: str = ""
    own_trace: bool = False
    key: bytes | None = None
    form: Form = "binary"
    value: bytes = b""
    headers: tuple[tuple[str, bytes | None], ...] = ()
