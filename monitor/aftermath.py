"""What became of dead letters that were put back.

Invariant: it only reads. A letter is linked to what came of it by the origin of its task, which stays with it through
every hop and is on every status event; only what was said after the replay counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fairlane.monitor.dlq import oldest_first, stretch
from fairlane.monitor.letter import Letter, letter_of
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.record import headers_of
from fairlane.monitor.scan import BEGINNING, Scanner
from fairlane.topics.audit import REPLAY, AuditRecord, decode_audit
from fairlane.topics.connection import Connection
from fairlane.topics.errors import QueueUnknown
from fairlane.topics.events import StatusEvent, decode_status
from fairlane.topics.names import QueueNames


class Aftermath(msgspec.Struct, frozen=True, kw_only=True):
    """A replay, and what came of it.

    Attributes:
        letter: that was put back, as `topic/partition/offset`.
        task_id: id of its task.
        type: task type.
        replayed_ms: when, Unix ms by the broker's clock.
        who: by whom.
        job: by which job.
        edited: whether its payload was changed.
        to: the lane it went to.
        state: newest that was said of it since: `completed`, `retrying`, `failed`, `cancelled`, `expired`; `waiting`
            while nothing was: it waits in its lane, or runs.
        finished_ms: when its last attempt ended, Unix ms; 0 if none has.
        attempt: its last attempt since.
        error: of that, or "".
        died_again: the letter that it became, or "".
    """

    letter: str
    task_id: str
    type: str
    replayed_ms: int
    who: str
    job: str = ""
    edited: bool = False
    to: str = ""
    state: str = "waiting"
    finished_ms: int = 0
    attempt: int = 0
    error: str = ""
    died_again: str = ""


def aftermath(
    connection: Connection, names: QueueNames, wanted: LetterFilter, *, job: str = "", timeout_s: float = 30
) -> tuple[Aftermath, ...]:
    """The last replay of every letter that fits, and what came of it, in the order of the replays.

    Args:
        connection: to the cluster.
        names: of the queue.
        wanted: which letters.
        job: only what this job put back; "" is all.
        timeout_s: how long reading a topic may take, seconds.

    Raises:
        QueueUnknown: there is no such queue.
        ReadIncomplete: there was more to read than the time allowed.
        KafkaUnreachable: no broker answered.
    """
    offsets = Offsets(connection, timeout_s=timeout_s)
    topics = offsets.topics(names)
    for topic in (names.dlq, names.audit, names.status):
        if topic not in topics:
            raise QueueUnknown(names.queue, topic, connection.bootstrap)
    with Scanner(connection, timeout_s=timeout_s, group=names.group) as scanner:
        replays = _replays(scanner, names, topics[names.audit], job)
        if not replays:
            return ()
        starts, ends = stretch(offsets, names, LetterFilter(), topics[names.dlq])
        put_back: list[Letter] = []
        newest: dict[str, Letter] = {}
        for record in oldest_first(scanner, starts, ends):
            letter = letter_of(record)
            if letter.place in replays and wanted.fits(letter):
                put_back.append(letter)
                newest[letter.origin] = letter
            elif letter.origin in newest:
                newest[letter.origin] = letter
        scanner.renew()
        said = _said(scanner, offsets, names, topics[names.status], min(at_ms for _, at_ms in replays.values()))
    found = [_one(letter, *replays[letter.place], said, newest) for letter in put_back]
    return tuple(sorted(found, key=lambda one: (one.replayed_ms, one.letter)))


def _replays(scanner: Scanner, names: QueueNames, partitions: int, job: str) -> dict[str, tuple[AuditRecord, int]]:
    """By letter, its last replay and when that was, Unix ms by the broker's clock."""
    found = {}
    for message in scanner.read({(names.audit, number): BEGINNING for number in range(partitions)}):
        record = decode_audit(message.value() or b"")
        if record is not None and record.action == REPLAY and record.letter and job in ("", record.job):
            found[record.letter] = record, message.timestamp()[1]
    return found


def _said(
    scanner: Scanner, offsets: Offsets, names: QueueNames, partitions: int, since_ms: int
) -> dict[str, tuple[StatusEvent, int]]:
    """By origin, the newest status event since then, and when it was written, Unix ms."""
    found = {}
    starts = offsets.since([(names.status, number) for number in range(partitions)], since_ms)
    for message in scanner.read(starts):
        event = decode_status(message.value() or b"")
        if event is not None:
            origin = dict(headers_of(message)).get("fairlane-origin") or b""
            found[origin.decode("utf-8", "replace") or event.id] = event, message.timestamp()[1]
    return found


def _one(
    letter: Letter,
    record: AuditRecord,
    at_ms: int,
    said: Mapping[str, tuple[StatusEvent, int]],
    newest: Mapping[str, Letter],
) -> Aftermath:
    event, written_ms = said.get(letter.origin) or said.get(letter.task_id) or (None, 0)
    if event is None or written_ms <= at_ms:
        event = None
    last = newest.get(letter.origin, letter)
    died_again = last.place if last.record.timestamp_ms > at_ms and last.place != letter.place else ""
    state = event.state if event else ("failed" if died_again else "waiting")
    error = event.error if event else None
    return Aftermath(
        letter=letter.place,
        task_id=letter.task_id,
        type=letter.type,
        replayed_ms=at_ms,
        who=record.who,
        job=record.job,
        edited=record.edited,
        to=record.to,
        state=state,
        finished_ms=event.finished_ms if event else 0,
        attempt=event.attempt if event else 0,
        error=f"{error.type}: {error.message}" if error else last.error if died_again else "",
        died_again=died_again,
    )


def counted_by_state(found: Sequence[Aftermath]) -> dict[str, int]:
    """How many are in each state, the most first."""
    states = sorted({one.state for one in found}, key=lambda state: -sum(one.state == state for one in found))
    return {state: sum(one.state == state for one in found) for state in states}
