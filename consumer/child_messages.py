"""What crosses between a worker and its child processes: MessagePack, each message after its length.

Invariant: a payload goes in and a result comes out as the bytes that they are on the wire; never pickle.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import msgspec

from fairlane.consumer.outcome import OutboxRecord
from fairlane.topics.events import ErrorInfo
from fairlane.topics.task import Task

LENGTH: Final = struct.Struct("!Q")
"""Precedes each message."""


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first message: what the child is for."""

    target: str
    task_type: str
    sys_path: tuple[str, ...]
    log_level: int
    connect: dict[str, Any]
    """Where the worker's Kafka is, for what the handler sends by itself; see `WorkerConfig.connect`."""
    traced: bool
    """Whether an SDK is set in the parent, so that the environment's is to be set in the child too."""


class Call(msgspec.Struct, frozen=True, tag=True):
    """Run the handler for a task."""

    task: Task
    deadline: float | None
    traceparent: str
    """Of the attempt's span, or what the task says."""
    tracestate: str


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """The attempt should stop; the child is killed soon."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The handler is imported."""


class Unusable(msgspec.Struct, frozen=True, tag=True):
    """It cannot be, for this reason."""

    error: ErrorInfo


class LogLine(msgspec.Struct, frozen=True, tag=True):
    """A log record, for the handlers of the parent."""

    fields: dict[str, Any]


class Sent(msgspec.Struct, frozen=True):
    """What a handler sent through its context: a task, which the parent routes, or a record."""

    task: Task | None = None
    record: OutboxRecord | None = None


class Returned(msgspec.Struct, frozen=True, tag=True):
    """The handler returned; `result` is its JSON."""

    result: bytes
    sent: tuple[Sent, ...] = ()


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The handler raised; `kinds` are the full names of the exception's classes, its own first."""

    error: ErrorInfo
    kinds: tuple[str, ...]


class AskedLater(msgspec.Struct, frozen=True, tag=True):
    """The handler raised RetryLater."""

    delay_s: float | None
    reason: str


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """The handler raised Reject."""

    reason: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The payload does not fit the handler."""

    errors: tuple[str, ...]


ToChild = Setup | Call | Cancel
Answer = Returned | Failed | AskedLater | Rejected | Refused
ToParent = Ready | Unusable | LogLine | Returned | Failed | AskedLater | Rejected | Refused

_encoder: Final = msgspec.msgpack.Encoder(enc_hook=repr)
_to_child: Final = msgspec.msgpack.Decoder(ToChild)
_to_parent: Final = msgspec.msgpack.Decoder(ToParent)


def encode(message: ToChild | ToParent) -> bytes:
    """A message with its length before it."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def for_child(body: bytes) -> ToChild:
    """The message of a body, in the child."""
    message: ToChild = _to_child.decode(body)
    return message


def for_parent(body: bytes) -> ToParent:
    """The message of a body, in the parent.

    Raises:
        msgspec.MsgspecError: it is none: the child's memory is not in order.
    """
    message: ToParent = _to_parent.decode(body)
    return message
