"""Who did what to a queue: the JSON of `<queue>.audit`.

Invariant: what is done to a letter and its audit record are written in one transaction: there is none without the
other. What is asked of the workers (`cancel`, `pause`, …) is audited once Kafka has acknowledged it, since a
record of `<queue>.control` is in no transaction: an audit may lack what was done, and says nothing that was not.
Of a letter the record says all by itself, so whoever reads the topic to its end knows which letters are dealt with.
Readers accept unknown fields and actions, and refuse an unknown version.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fairlane.topics.events import UNREADABLE, Whole

REPLAY: Final = "replay"
RERUN: Final = "rerun"
PURGE: Final = "purge"
CANCEL: Final = "cancel"
PAUSE: Final = "pause"
RESUME: Final = "resume"
WEIGHT: Final = "weight"
KILL: Final = "kill"
DEMOTE: Final = "demote"

PROGRESS: Final = "progress"
"""The phase of a record that is written with every batch of a job."""

DEALT_WITH: Final = frozenset({REPLAY, PURGE})
"""What takes a letter off the list of those that nobody has dealt with."""


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="v", tag=1):
    """One action. What has no meaning for it is left out.

    Attributes:
        at_ms: when, Unix ms.
        who: user and host, or the name of the token, as far as they are known.
        via: where it was asked for: `cli`, `api`, `dashboard`.
        action: what was done: `replay`, `purge` of letters, `rerun` of tasks that ran; of the queue itself `cancel`,
            `pause`, `resume`, `weight`, `kill`, `demote`, `schedule add`, `schedule pause` and so on.
        target: what it was done to where that is no letter: a task's id, a lane, `type:<type>`, a schedule.
        letter: `topic/partition/offset` of the dead letter.
        task_id: id of the letter's task.
        to: topic that the letter went to.
        edited: whether its payload was changed on the way.
        job: id of the action on many letters that this one is a part of.
        phase: of a record of the job itself, without a letter: `started`, `progress` (of a `rerun`, with the tasks that
            it wrote), `stopped` (it can be resumed) or `ended`.
        filter: which letters or tasks the job was asked for, as JSON.
        count: of a job that started, how many there are to do; else how many were done since then.
        details: what else the action needs to be understood, or done again.
    """

    at_ms: Whole
    who: str = ""
    via: str = ""
    action: str
    target: str = ""
    letter: str = ""
    task_id: str = ""
    to: str = ""
    edited: bool = False
    job: str = ""
    phase: str = ""
    filter: str = ""
    count: Whole = 0
    details: dict[str, Any] = {}

    @property
    def key(self) -> bytes:
        """Key of its record: the letter, else the target, else the job."""
        return (self.letter or self.target or self.job).encode("utf-8", "replace")

    @property
    def deals_with(self) -> str:
        """The letter that is dealt with by it, or ""."""
        return self.letter if self.action in DEALT_WITH else ""


_decoder = msgspec.json.Decoder(AuditRecord)
_encoder = msgspec.json.Encoder()


def encode_audit(record: AuditRecord) -> bytes:
    """The JSON of an audit record."""
    return _encoder.encode(record)


def decode_audit(value: bytes) -> AuditRecord | None:
    """The record, or None where the bytes are none of a version that is known (anybody can write a topic)."""
    try:
        return _decoder.decode(value)
    except UNREADABLE:
        return None
