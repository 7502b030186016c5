"""The headers of a dead letter, and of the letter put back.

Invariant: a letter has every header that the record had, and the reason on top; `replay` takes off what `dead_letter`
put on, so key, value and the producer's headers come back as they were, with the origin that they had.
"""

from __future__ import annotations

from typing import Final

from fairlane.topics import task_headers
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.events import ErrorInfo, Reason
from fairlane.topics.headers import (
    KIP_1191,
    LETTER,
    MAX_MESSAGE_BYTES,
    MAX_NUMBER,
    MAX_TRACEBACK_BYTES,
    OWN,
    Headers,
)
from fairlane.topics.task import Origin, Task

_LETTER_NAMES: Final = frozenset(header.name for header in LETTER)
_KIP_1191_NAMES: Final = frozenset(header.name for header in KIP_1191)

_SPENT: Final = _LETTER_NAMES | {
    "fairlane-attempt",
    "fairlane-worker-lost",
    "fairlane-handbacks",
    "fairlane-not-before-ms",
    "fairlane-first-failed-ms",
    "fairlane-unfit-since-ms",
    "fairlane-replays",
}
"""What a replay takes off: the task starts again as if it were new."""


def dead_letter(
    headers: Headers | None,
    *,
    task: Task | None,
    reason: Reason,
    error: ErrorInfo | None,
    topic: str,
    partition: int,
    offset: int,
    group: str,
    now_ms: int,
) -> list[tuple[str, bytes | None]]:
    """Headers of the record in the DLQ; its key and value are those of the dead one.

    Args:
        headers: all headers of the dead record.
        task: the task as it is now; None where the record is no task, whose headers then all stay, bad ones too.
        reason: why it is dead.
        error: the last exception, cut to 2 KiB of message and the last 8 KiB of traceback; None where there was none.
        topic: where the dead record was read, a lane or a tier.
        partition: its partition.
        offset: its offset.
        group: consumer group of the worker.
        now_ms: when it was given up, Unix ms.
    """
    where = (("topic", topic.encode()), ("partition", b"%d" % partition), ("offset", b"%d" % offset))
    message = _cut(error.message, MAX_MESSAGE_BYTES) if error else reason.encode()
    letter: list[tuple[str, bytes | None]]
    if task is None:
        letter = [header for header in headers or () if header[0] not in _LETTER_NAMES]
        names = {name for name, _ in letter}
        if "fairlane-origin" not in names:
            letter.append(("fairlane-origin", str(Origin(topic, partition, offset)).encode()))
        if "fairlane-first-failed-ms" not in names:
            letter.append(("fairlane-first-failed-ms", b"%d" % now_ms))
        deliveries = 1
    else:
        letter = [header for header in headers or () if header[0] not in OWN]
        letter += task_headers.write(task)
        if task.attempt == 1:
            letter.append(("fairlane-attempt", b"1"))
        if not task.first_failed_ms:
            letter.append(("fairlane-first-failed-ms", b"%d" % now_ms))
        deliveries = task.attempt + task.worker_lost + task.handbacks
    letter.append(("fairlane-reason", reason.encode()))
    if error is not None:
        letter.append(("fairlane-error-type", _cut(error.type, MAX_MESSAGE_BYTES)))
        letter.append(("fairlane-error-message", message))
        if error.traceback:
            letter.append(("fairlane-traceback", _cut_front(error.traceback, MAX_TRACEBACK_BYTES)))
    letter += [(f"fairlane-original-{name}", value) for name, value in where]
    letter.append(("fairlane-last-failed-ms", b"%d" % now_ms))
    letter += [(f"__dlq.errors.{name}", value) for name, value in where]
    letter.append(("__dlq.errors.group", group.encode()))
    letter.append(("__dlq.errors.delivery.count", b"%d" % deliveries))
    letter.append(("__dlq.errors.message", message))
    return letter


def replay(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Headers of a dead letter put back into its lane: as they were, with the origin, and one replay more.

    Attempts, losses and handbacks start again and nothing is waited for; a task that died of its expiry has none now,
    since whoever replays it wants it run.
    """
    found = dict(headers)
    spent = _SPENT | {"fairlane-expires-ms"} if found.get("fairlane-reason") == b"expired" else _SPENT
    # A record may have had __dlq.errors.* of its own, from another DLQ: only the last of each is ours.
    ours = set(_KIP_1191_NAMES) if "fairlane-reason" in found else set()
    kept: list[tuple[str, bytes | None]] = []
    for header in reversed(headers):
        if header[0] in ours:
            ours.discard(header[0])
        elif header[0] not in spent:
            kept.append(header)
    kept.reverse()
    kept.append(("fairlane-replays", b"%d" % min(_replays(found.get("fairlane-replays")) + 1, MAX_NUMBER)))
    return kept


def _replays(raw: bytes | None) -> int:
    try:
        return task_headers.number(raw, "fairlane-replays", 0)
    except MalformedRecord:
        return 0


def _cut(text: str, limit: int) -> bytes:
    """The beginning of a text as UTF-8, at most `limit` bytes, no character cut in two."""
    return _utf8(text[:limit])[:limit].decode("utf-8", "ignore").encode()


def _cut_front(text: str, limit: int) -> bytes:
    """As `_cut`, but the end of it: a traceback says at its end what happened."""
    return _utf8(text[-limit:])[-limit:].decode("utf-8", "ignore").encode()


def _utf8(text: str) -> bytes:
    # Lone surrogates occur in messages about file names; they must not make a letter undeliverable.
    return text.encode("utf-8", "backslashreplace")
