"""Who did what to a queue: the JSON of `<queue>.audit`.

Invariant: an action and its audit record are written in one transaction: there is none without the other. Readers
accept unknown fields and refuse an unknown version.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fairlane.topics.events import UNREADABLE, Whole

REPLAY: Final = "replay"


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One action; the key of its record is what it was done to.

    Attributes:
        v: version of this form.
        at_ms: when, Unix ms.
        who: user and host, as far as they are known.
        action: what was done: `replay`.
        letter: `topic/partition/offset` of the dead letter; the key of the record.
        task_id: id of the letter's task.
        to: topic that the letter went to.
    """

    v: int = 1
    at_ms: Whole
    who: str = ""
    action: str
    letter: str = ""
    task_id: str = ""
    to: str = ""


_decoder = msgspec.json.Decoder(AuditRecord)
_encoder = msgspec.json.Encoder()


def encode_audit(record: AuditRecord) -> bytes:
    """The JSON of an audit record."""
    return _encoder.encode(record)


def decode_audit(value: bytes) -> AuditRecord | None:
    """The record, or None where the bytes are none of a version that is known (anybody can write a topic)."""
    try:
        record = _decoder.decode(value)
    except UNREADABLE:
        return None
    return record if record.v == 1 else None
