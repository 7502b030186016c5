"""Reads the dead letters of a queue, the newest first for a list, the oldest first to put them back.

Invariant: a letter that was put back is hidden unless it is asked for, and one that was purged always: what is listed
is what nobody has dealt with. Reading goes in windows, so that the newest letters of a large DLQ cost no more than
those of a small one, and none needs more memory than a window of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

import msgspec

from fairlane.monitor.letter import Letter, letter_of
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.letter_groups import Group, grouped
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.record import Record, record_of
from fairlane.monitor.scan import BEGINNING, Partition, Scanner
from fairlane.topics.audit import PURGE, AuditRecord, decode_audit
from fairlane.topics.connection import Connection
from fairlane.topics.errors import QueueUnknown
from fairlane.topics.names import QueueNames

_WINDOW: Final = 200
_WINDOW_MAX: Final = 10_000
_FORWARD_MAX: Final = 24_000
"""So many records of all partitions together are read ahead, or a smallest window of each."""


class Listed(msgspec.Struct, frozen=True):
    """A letter, and the newest record in the audit of its being put back, if it was."""

    letter: Letter
    replayed: AuditRecord | None = None


class Listing(msgspec.Struct, frozen=True):
    """Letters that fit, the newest first; `more`: there are others beyond the limit; `hidden`: dealt with before."""

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
        dealt = dealt_with(scanner, names, topics).newest
        found: list[Listed] = []
        hidden = 0
        starts, ends = stretch(offsets, names, wanted, topics[names.dlq])
        with closing(newest_first(scanner, starts, ends)) as records:
            for record in records:
                letter = letter_of(record)
                if not wanted.fits(letter):
                    continue
                audit = dealt.get(letter.place)
                if audit is not None and (audit.action == PURGE or not wanted.replayed):
                    hidden += 1
                    continue
                if len(found) == limit:
                    return Listing(tuple(found), True, hidden)
                found.append(Listed(letter, audit))
        return Listing(tuple(found), False, hidden)


def group_letters(
    connection: Connection, names: QueueNames, wanted: LetterFilter, *, timeout_s: float = 30
) -> tuple[Group, ...]:
    """The letters of a queue that fit and that nobody has dealt with, by what they died of, the largest group first.

    Args, Raises: as of `list_letters`.
    """
    offsets = Offsets(connection, timeout_s=timeout_s)
    with Scanner(connection, timeout_s=timeout_s, group=names.group) as scanner:
        topics = offsets.topics(names)
        if names.dlq not in topics:
            raise QueueUnknown(names.queue, names.dlq, connection.bootstrap)
        dealt = dealt_with(scanner, names, topics).newest
        starts, ends = stretch(offsets, names, wanted, topics[names.dlq])

        def fitting() -> Generator[Letter]:
            for record in oldest_first(scanner, starts, ends):
                letter = letter_of(record)
                audit = dealt.get(letter.place)
                if wanted.fits(letter) and (audit is None or (wanted.replayed and audit.action != PURGE)):
                    yield letter

        return grouped(fitting())


def stretch(
    offsets: Offsets, names: QueueNames, wanted: LetterFilter, partitions: int
) -> tuple[dict[Partition, int], dict[Partition, int]]:
    """Where to begin and where to end in each partition so as to miss no letter that fits.

    Args:
        offsets: asks Kafka, by its index of times too.
        names: of the queue.
        wanted: which letters.
        partitions: how many the DLQ has.
    """
    asked = [(names.dlq, number) for number in range(partitions)]
    if wanted.places:
        by_partition: dict[Partition, list[int]] = {}
        for place in wanted.places:
            topic, number, offset = place.rsplit("/", 2)
            if (topic, int(number)) in asked:
                by_partition.setdefault((topic, int(number)), []).append(int(offset))
        asked = list(by_partition)
    starts, ends = offsets.starts(asked), offsets.ends(asked)
    if wanted.since_ms:
        since = offsets.since(asked, wanted.since_ms)
        starts = {each: max(start, since.get(each, ends[each])) for each, start in starts.items()}
    if wanted.places:
        starts = {each: max(start, min(by_partition[each])) for each, start in starts.items()}
        ends = {each: min(end, max(by_partition[each]) + 1) for each, end in ends.items()}
    return starts, ends


@dataclass(frozen=True)
class Dealt:
    """What the audit says of letters.

    Attributes:
        newest: by letter, the newest record of its being dealt with.
        by_job: the letters that one job dealt with, whatever others did to them later.
    """

    newest: dict[str, AuditRecord] = field(default_factory=dict)
    by_job: set[str] = field(default_factory=set)


def dealt_with(scanner: Scanner, names: QueueNames, topics: Mapping[str, int], job: str = "") -> Dealt:
    """What the audit says of letters, and of those of the job of that id."""
    found = Dealt()
    audit = [(names.audit, number) for number in range(topics.get(names.audit, 0))]
    for message in scanner.read(dict.fromkeys(audit, BEGINNING)):
        record = decode_audit(message.value() or b"")
        if record is not None and record.deals_with:
            found.newest[record.letter] = record
            if job and record.job == job:
                found.by_job.add(record.letter)
    return found


def oldest_first(scanner: Scanner, starts: Mapping[Partition, int], ends: Mapping[Partition, int]) -> Generator[Record]:
    """All records of some partitions from the oldest to the newest, read in windows; the time is renewed for each.

    Args:
        scanner: that nobody else uses meanwhile.
        starts: first offset of each partition.
        ends: end of each partition.
    """
    lines: dict[Partition, deque[Record]] = {each: deque() for each in ends}
    heads: list[tuple[int, Partition]] = []
    lowers = dict(starts)
    empty = list(ends)
    window, largest = _WINDOW, max(_WINDOW, _FORWARD_MAX // max(1, len(lines)))
    while True:
        # The first record that is unread of a partition may be the oldest of all: read on before choosing.
        while empty := [each for each in empty if lowers[each] < ends[each]]:
            scanner.renew()
            uppers = {each: min(ends[each], lowers[each] + window) for each in empty}
            for message in scanner.read({each: lowers[each] for each in empty}, uppers):
                record = record_of(message)
                lines[record.topic, record.partition].append(record)
            lowers |= uppers
            window = min(window * 2, largest)
            for each in empty:
                if lines[each]:
                    heappush(heads, (lines[each][0].timestamp_ms, each))
            empty = [each for each in empty if not lines[each]]
        if not heads:
            return
        _, each = heappop(heads)
        yield lines[each].popleft()
        if lines[each]:
            heappush(heads, (lines[each][0].timestamp_ms, each))
        else:
            empty = [each]


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
