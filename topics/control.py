"""What operators ask of all workers of a queue: the records of `<queue>.control`.

Invariant: the key of a record is its kind and scope, so compaction keeps the newest word on each thing, and a tombstone
takes it back. A record is never written inside a transaction: one that hangs would hide from workers that start what
was asked of them. Whoever reads is bounded: a record that is larger, or says more, than these bounds is none.
Readers accept unknown fields and kinds (a newer operator may ask for more than they can do), and no unknown version.

A scope is `queue`, `lane:<topic>`, `type:<type>` or `task:<id>`; that of a kill-switch with a condition is
`type:<type>?<condition>`, so that a type may have several.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from fairlane.topics.condition import CONDITION_MAX
from fairlane.topics.events import UNREADABLE, Whole
from fairlane.topics.headers import MAX_NAME

CANCEL: Final = "cancel"
PAUSE: Final = "pause"
WEIGHT: Final = "weight"
KILL: Final = "kill"
DEMOTE: Final = "demote"

QUEUE: Final = "queue"
LANE: Final = "lane:"
TYPE: Final = "type:"
TASK: Final = "task:"

RECORD_MAX_BYTES: Final = 16 << 10
WHO_MAX: Final = 300
REASON_MAX: Final = 1_000
WEIGHT_MAX: Final = 10_000

CANCELS_MAX: Final = 100_000
"""So many cancels may be in force at once: every worker holds them in memory."""
CANCEL_KEPT_MS: Final = 30 * 86_400_000
"""How long a cancel waits for a task that nobody knows."""

Kind = Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
Scope = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME + 16 + CONDITION_MAX)]
Who = Annotated[str, msgspec.Meta(max_length=WHO_MAX)]
Reason = Annotated[str, msgspec.Meta(max_length=REASON_MAX)]
Where = Annotated[str, msgspec.Meta(max_length=CONDITION_MAX)]
Topic = Annotated[str, msgspec.Meta(max_length=249)]

Action = Literal["drop", "dlq", "park"]
"""What becomes of the tasks that a kill-switch is about: `cancelled`, a dead letter, or they wait."""


class ControlRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """One thing that is asked for. What has no meaning for its kind is left out.

    Attributes:
        kind: `cancel`, `pause`, `weight`, `kill` or `demote`.
        scope: what it is about: `queue`, `lane:<topic>`, `type:<type>` or `task:<id>`.
        who: user and host, or the name of the token, as far as they are known.
        via: where it was asked for: `cli`, `python`, `api`.
        at_ms: when, Unix ms.
        until_ms: when it ends by itself, Unix ms; 0 is not before it is taken back.
        reason: why, in the operator's words.
        before_ms: of a cancel: it binds tasks that were enqueued until then, Unix ms.
        replays: of a cancel: it binds tasks that were replayed so often at most.
        weight: of a lane, from 1 to `WEIGHT_MAX`, in place of the one that workers are configured with.
        action: of a kill-switch, one of `Action`; one that is not known is not done.
        where: of a kill-switch: the condition on the tasks of the type, or "".
        to: of a demotion: topic of the lane that the type goes to.
    """

    kind: Kind
    scope: Scope
    who: Who = ""
    via: Who = ""
    at_ms: Whole = 0
    until_ms: Whole = 0
    reason: Reason = ""
    before_ms: Whole = 0
    replays: Whole = 0
    weight: Whole = 0
    action: Who = ""
    where: Where = ""
    to: Topic = ""

    @property
    def key(self) -> bytes:
        """Key of its record."""
        return key_of(self.kind, self.scope)

    @property
    def lane(self) -> str:
        """Topic of the lane that it is about, or ""."""
        return self.scope.removeprefix(LANE) if self.scope.startswith(LANE) else ""

    @property
    def task_type(self) -> str:
        """Type of the tasks that it is about, or ""."""
        if not self.scope.startswith(TYPE):
            return ""
        named = self.scope.removeprefix(TYPE)
        return named.removesuffix(f"?{self.where}") if self.where else named

    @property
    def task_id(self) -> str:
        """Id of the task that it is about, or ""."""
        return self.scope.removeprefix(TASK) if self.scope.startswith(TASK) else ""

    def holds(self, now_ms: int) -> bool:
        """Whether it has not ended by itself."""
        return not self.until_ms or now_ms < self.until_ms


def key_of(kind: str, scope: str) -> bytes:
    """Key of the record of a kind and scope; a tombstone under it takes back what was asked for."""
    return f"{kind}:{scope}".encode("utf-8", "replace")


def split_key(key: bytes) -> tuple[str, str]:
    """Kind and scope of a key."""
    kind, _, scope = key.decode("utf-8", "replace").partition(":")
    return kind, scope


_decoder = msgspec.json.Decoder(ControlRecord)
_encoder = msgspec.json.Encoder()


def encode_control(record: ControlRecord) -> bytes:
    """The JSON of a control record."""
    return _encoder.encode(record)


def decode_control(key: bytes, value: bytes) -> ControlRecord | None:
    """The record, or None where the bytes are none of a version that is known, or not what its key says."""
    if len(value) > RECORD_MAX_BYTES:
        return None
    try:
        record = _decoder.decode(value)
    except UNREADABLE:
        return None
    return record if record.key == key else None


def cut(text: str, most: int) -> str:
    """Text that fits into a record: valid UTF-8 of so many characters."""
    clean = text.encode("utf-8", "replace").decode()
    return clean if len(clean) <= most else clean[: most - 1] + "…"
