"""Lists the dead letters of a queue, the newest first.

Invariant: a letter that was put back is hidden unless it is asked for: what is listed is what nobody has dealt with.
Reading goes backwards from the ends, so that the newest letters of a large DLQ cost no more than those of a small one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fairlane.monitor.letter import Letter, letter_of
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.record import Record, record_of
from fairlane.monitor.scan import BEGINNING, Partition, Scanner
from fairlane.topics.audit import AuditRecord, decode_audit
from fairlane.topics.connection import Connection
from fairlane.topics.errors import QueueUnknown
from fairlane.topics.names import QueueNames

_WINDOW: Final = 200
_WINDOW_MAX: Final = 10_000


@dataclass(frozen=True)
class LetterFilter:
    """Which letters: those that fit all that is said.

    Attributes:
        places: only these, each `topic/partition/offset`; all if empty.
        task_id: only of this task.
        type: only of this type.
        reason: only of this reason.
        replayed: those that were put back already too.
    """

    places: frozenset[str] = frozenset()
    task_id: str = ""
    type: str = ""
    reason: str = ""
    replayed: bool = False

    def fits(self, letter: Letter) -> bool:
        """Whether the letter is one of them, replayed or not."""
        return (
            (not self.places or letter.place in self.places)
            and (not self.task_id or letter.task_id == self.task_id)
            and (not self.type or letter.type == self.type)
            and (not self.reason or letter.reason == self.reason)
        )


class Listed(msgspec.Struct, frozen=True):
    """A letter, and the newest record of its being put back, if it was."""

    letter: Letter
    replayed: AuditRecord | None = None


class Listing(msgspec.Struct, frozen=True):
    """Letters that fit, the newest first; `more`: there are others beyond the limit; `hidden`: put back before."""

    letters: tuple[Listed, ...]
    more: bool = False
    hidden: int = 0


def list_letters(
    connection: Connection,
    names: QueueNames,
    wanted: LetterFilter,
    *,
    limit: int,
    timeout_s: float = 30,
) -> Listing:
    """The newest letters of a queue that fit.

    Args:
        connection: to the cluster.
        names: of the queue.
        wanted: which.
        limit: at most how many.
        timeout_s: how long it may take, seconds.

    Raises:
        QueueUnknown: there is no such queue.
        ReadIncomplete: there was more to read than the time allowed.
        RightMissing: we may not read it.
        KafkaUnreachable: no broker answered.
    """
    offsets = Offsets(connection, timeout_s=timeout_s)
    with Scanner(connection, timeout_s=timeout_s, group=names.group) as scanner:
        topics = offsets.topics(names)
        if names.dlq not in topics:
            raise QueueUnknown(names.queue, names.dlq, connection.bootstrap)
        replayed = replays(scanner, names, topics)
        found: list[Listed] = []
        hidden = 0
        partitions = [(names.dlq, number) for number in range(topics[names.dlq])]
        with closing(newest_first(scanner, offsets.starts(partitions), offsets.ends(partitions))) as records:
            for record in records:
                letter = letter_of(record)
                if not wanted.fits(letter):
                    continue
                audit = replayed.get(letter.place)
                if audit is not None and not wanted.replayed:
                    hidden += 1
                    continue
                if len(found) == limit:
                    return Listing(tuple(found), True, hidden)
                found.append(Listed(letter, audit))
        return Listing(tuple(found), False, hidden)


def replays(scanner: Scanner, names: QueueNames, topics: Mapping[str, int]) -> dict[str, AuditRecord]:
    """By letter, the newest record of its being dealt with."""
    found = {}
    audit = [(names.audit, number) for number in range(topics.get(names.audit, 0))]
    for message in scanner.read(dict.fromkeys(audit, BEGINNING)):
        record = decode_audit(message.value() or b"")
        if record is not None and record.deals_with:
            found[record.letter] = record
    return found


@dataclass
class _Stack:
    """What was read of a partition and not given out yet, the newest last, and where the unread rest ends."""

    start: int
    upper: int
    records: list[Record] = field(default_factory=list)


def newest_first(scanner: Scanner, starts: Mapping[Partition, int], ends: Mapping[Partition, int]) -> Generator[Record]:
    """All records of some partitions from the newest to the oldest, read in windows from their ends.

    Args:
        scanner: that nobody else uses meanwhile.
        starts: first offset of each partition.
        ends: end of each partition.
    """
    stacks = {partition: _Stack(starts[partition], end) for partition, end in ends.items()}
    window = _WINDOW
    while True:
        # A partition that has given out all that was read of it may have the next newest one: read on before choosing.
        empty = {each: stack for each, stack in stacks.items() if not stack.records and stack.upper > stack.start}
        if empty:
            lowers = {each: max(stack.start, stack.upper - window) for each, stack in empty.items()}
            for message in scanner.read(lowers, {each: stack.upper for each, stack in empty.items()}):
                record = record_of(message)
                stacks[record.topic, record.partition].records.append(record)
            for each, stack in empty.items():
                stack.upper = lowers[each]
            window = min(window * 2, _WINDOW_MAX)
            continue
        filled = [stack for stack in stacks.values() if stack.records]
        if not filled:
            return
        yield max(filled, key=lambda stack: stack.records[-1].timestamp_ms).records.pop()
