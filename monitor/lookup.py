"""Finds what a queue knows of one task: in the status topic, the heartbeats, the lanes and tiers, and the DLQ.

Invariant: it reads the status topic first and once more at the end, so that a task which moves on while it is looked
for is not missed: wherever it was not found any more, its new status was written before. The time is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Final

from confluent_kafka import Message
from msgspec.structs import replace

from fairlane.monitor import discovery
from fairlane.monitor.errors import ReadIncomplete
from fairlane.monitor.heartbeats import newest_beats, topics_read
from fairlane.monitor.letter import Letter, letter_of
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.record import headers_of, record_of
from fairlane.monitor.scan import BEGINNING, Partition, Scanner
from fairlane.monitor.taken import NONE_TAKEN, Taken, map_of
from fairlane.monitor.task_view import Facts, Place, Runs, Said, TaskView, Waits, view
from fairlane.topics import wire
from fairlane.topics.audit import REPLAY, decode_audit
from fairlane.topics.connection import Connection
from fairlane.topics.errors import MalformedRecord, QueueUnknown, TaskUnknown
from fairlane.topics.events import HEARTBEAT_GONE_MS, Heartbeat, decode_status
from fairlane.topics.ids import made_at_ms
from fairlane.topics.names import Lane, QueueNames, Tier
from fairlane.topics.partitioner import partition_of
from fairlane.topics.task import Origin

STATUS_KEPT_S: Final = 7 * 86_400

CLOCK_MARGIN_MS: Final = 300_000
"""How far the clock of whoever made an id may be ahead of Kafka's."""

_ROUNDS: Final = 3
_LAST_WORD_S: Final = 2.0


def find_task(
    connection: Connection,
    names: QueueNames,
    task_id: str,
    *,
    now_ms: int,
    lanes: Sequence[Lane] | None = None,
    tiers: Sequence[Tier] | None = None,
    timeout_s: float = 10,
) -> TaskView:
    """What the queue knows of a task now.

    Args:
        connection: to the cluster.
        names: of the queue.
        task_id: id of the task.
        now_ms: Unix ms.
        lanes: the queue's lanes; those that are found by default.
        tiers: its tiers; those that are found by default.
        timeout_s: how long it may take, seconds.

    Raises:
        TaskUnknown: nothing speaks of it: it never was, or it ended longer than 7 days ago.
        ReadIncomplete: there was more to read than the time allowed.
        QueueUnknown: there is no such queue.
        KafkaUnreachable: no broker answered.
    """
    with Scanner(connection, timeout_s=timeout_s, group=names.group) as scanner:
        lookup = _Lookup(connection, names, task_id, now_ms, scanner, Offsets(connection, timeout_s=timeout_s))
        found = lookup.find(lanes, tiers)
    if found is None:
        raise TaskUnknown(task_id, names.queue, STATUS_KEPT_S)
    return found


class _Lookup:
    """One search for one task."""

    def __init__(
        self, connection: Connection, names: QueueNames, task_id: str, now_ms: int, scanner: Scanner, offsets: Offsets
    ) -> None:
        self._connection = connection
        self._names = names
        self._id = task_id
        self._key = task_id.encode("utf-8", "replace")
        self._now_ms = now_ms
        self._scanner = scanner
        self._offsets = offsets
        made_ms = made_at_ms(task_id)
        self._since_ms = None if made_ms is None else max(0, made_ms - CLOCK_MARGIN_MS)
        self._topics: Mapping[str, int] = {}
        self._lanes: dict[str, Lane] = {}
        self._tiers: tuple[str, ...] = ()
        self._taken: dict[Partition, Taken] = {}
        self._put_back: set[str] = set()
        """Letters of the task that were replayed, as far as the audit was read."""

    def find(self, lanes: Sequence[Lane] | None, tiers: Sequence[Tier] | None) -> TaskView | None:
        """The newest view of the task, or None."""
        self._topics = self._offsets.topics(self._names)
        if self._names.status not in self._topics:
            raise QueueUnknown(self._names.queue, self._names.status, self._connection.bootstrap)
        status = (self._names.status, self._hashed(self._names.status))
        # The end is asked for first: what is written after it is read at the end of the search.
        end = self._offsets.ends([status])
        said = self._said(end | self._start_of([status]))
        facts = self._facts(said)
        if facts.ended:
            return self._view(self._with_letter(facts))
        self._know(lanes, tiers)
        commits = self._scanner.commits(self._all([*self._lanes, *self._tiers]))
        committed = {each: commit.offset for each, commit in commits.items()}
        ends = self._offsets.ends(commits)
        self._taken = {each: Taken(settled=map_of(*commits[each], end)) for each, end in ends.items()}
        incomplete: ReadIncomplete | None = None
        for _ in range(_ROUNDS):
            try:
                waits = self._search(facts, committed)
            except ReadIncomplete as late:
                # What is known already is worth more than its place: a moment more for the last word.
                incomplete, waits = late, ()
                self._scanner.renew(_LAST_WORD_S)
            facts = replace(facts, runs=self._runs(), waits=waits)
            newer = self._said({status: self._scanner.ends[status]})
            if newer is None and self._view(facts) is None:
                # Its record may be settled, and the event beside that not visible yet.
                self._offsets.await_visible(self._offsets.written([status]), _LAST_WORD_S)
                newer = self._said({status: self._scanner.ends[status]})
            if newer is None:
                break
            facts = self._facts(newer)
            if facts.ended or incomplete:
                break
        found = self._view(facts)
        if found is None and incomplete is not None:
            raise incomplete
        if found is None or found.state in ("failed", "expired"):
            found = self._view(self._with_letter(facts))
        return found

    def _view(self, facts: Facts) -> TaskView | None:
        return view(self._names.queue, self._id, facts)

    def _facts(self, said: Said | None) -> Facts:
        replayed_ms = 0
        if said is not None and said.event.state in ("failed", "expired"):
            replayed_ms = self._replayed_ms(said.written_ms)
        return Facts(said=said, replayed_ms=replayed_ms)

    def _hashed(self, topic: str) -> int:
        return partition_of(self._key, self._topics[topic])

    def _all(self, topics: Iterable[str]) -> list[Partition]:
        return [(topic, partition) for topic in topics for partition in range(self._topics.get(topic, 0))]

    def _start_of(self, partitions: Sequence[Partition], since_ms: int | None = None) -> dict[Partition, int]:
        """Where to begin so as to miss nothing of the task; partitions without anything that is new enough are out."""
        known = [moment for moment in (self._since_ms, since_ms) if moment is not None]
        if not known:
            return dict.fromkeys(partitions, BEGINNING)
        return self._offsets.since(partitions, max(known))

    def _said(self, starts: Mapping[Partition, int]) -> Said | None:
        """The newest status event of the task from there on."""
        newest: Said | None = None
        for message in self._scanner.read(starts):
            if message.key() == self._key and (event := decode_status(message.value() or b"")) is not None:
                newest = Said(event, message.timestamp()[1])
        return newest

    def _replayed_ms(self, since_ms: int) -> int:
        """When a letter of the task was last put back."""
        newest_ms = 0
        audit = self._all([self._names.audit])
        for message in self._scanner.read(self._offsets.since(audit, since_ms - CLOCK_MARGIN_MS)):
            record = decode_audit(message.value() or b"")
            if record is not None and record.action == REPLAY and record.task_id == self._id:
                newest_ms = max(newest_ms, message.timestamp()[1])
                self._put_back.add(record.letter)
        return newest_ms

    def _runs(self) -> tuple[Runs, ...]:
        """The workers alive that run it now."""
        return tuple(
            Runs(beat.worker, task)
            for beat in self._beats()
            if beat.state != "stopped" and self._now_ms - beat.at_ms <= HEARTBEAT_GONE_MS
            for task in beat.running_tasks
            if task.id == self._id
        )

    def _beats(self) -> tuple[Heartbeat, ...]:
        return newest_beats(self._scanner, self._offsets, self._names, self._topics, self._now_ms)

    def _know(self, lanes: Sequence[Lane] | None, tiers: Sequence[Tier] | None) -> None:
        if lanes is None:
            read = topics_read(self._beats())
            self._offsets.require(read - self._topics.keys())
            lanes = discovery.lanes_of(self._names, self._topics, read)
        if tiers is None:
            tiers = discovery.tiers_of(self._names, self._topics)
        self._lanes = {lane.topic: lane for lane in lanes}
        self._tiers = tuple(self._names.tier(tier) for tier in tiers)

    def _search(self, facts: Facts, committed: Mapping[Partition, int]) -> tuple[Waits, ...]:
        """Records of the task from the watermarks on, up to the first that is newer than what was last said."""
        partitions = self._all([*self._lanes, *self._tiers])
        moments = [facts.said.written_ms] if facts.said else []
        if facts.replayed:
            moments = [facts.replayed_ms]
        since_ms = moments[0] - CLOCK_MARGIN_MS if moments else None
        if since_ms is not None or self._since_ms is not None:
            passes = [self._start_of(partitions, since_ms)]
        else:
            # An id that tells no time: most clients use it as the key, so one partition of each topic comes first.
            first = [each for each in partitions if each[1] == self._hashed(each[0])]
            rest = [each for each in partitions if each not in first]
            passes = [dict.fromkeys(first, BEGINNING), dict.fromkeys(rest, BEGINNING)]
            if (origin := self._origin()) is not None:
                passes.insert(0, {(origin.topic, origin.partition): origin.offset})
        found: list[Waits] = []
        for starts in passes:
            starts = {each: max(start, committed.get(each, 0)) for each, start in starts.items()}
            with closing(self._scanner.read(starts)) as messages:
                for message in messages:
                    waits = self._waits(message, committed)
                    if waits is not None:
                        found.append(waits)
                        if not facts.is_past(waits):
                            return tuple(found)
        return tuple(found)

    def _origin(self) -> Origin | None:
        """The record that a task without an id of its own is named after."""
        try:
            origin = Origin.parse(self._id)
        except MalformedRecord:
            return None
        is_there = origin.topic in self._lanes and origin.partition < self._topics.get(origin.topic, 0)
        return origin if is_there else None

    def _waits(self, message: Message, committed: Mapping[Partition, int]) -> Waits | None:
        if not self._may_be_it(message):
            return None
        record = record_of(message)
        taken = self._taken.get((record.topic, record.partition), NONE_TAKEN)
        if taken.has(record.offset):
            return None
        lane = self._lanes.get(record.topic)
        try:
            task = wire.decode(
                record.topic,
                record.partition,
                record.offset,
                record.timestamp_ms,
                record.key,
                record.value or b"",
                record.headers,
                lane=lane.topic if lane else None,
                priority=lane.level if lane else 0,
                default_type=discovery.default_type_of(lane),
            )
        except MalformedRecord:
            return None
        if task.id != self._id:
            return None
        place = Place(
            kind="lane" if lane else "tier",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            before=taken.free(committed.get((record.topic, record.partition), 0), record.offset),
        )
        return Waits(task, place, record.timestamp_ms)

    def _may_be_it(self, message: Message) -> bool:
        """A look at the bytes, since decoding every record of a backlog would take much longer."""
        key, value = self._key, message.value()
        if value is None:
            return False
        if message.key() == key or any(header == key for _, header in headers_of(message)):
            return True
        return key in value or f"{message.topic()}/{message.partition()}/{message.offset()}" == self._id

    def _with_letter(self, facts: Facts) -> Facts:
        """With the letter that its status is of, where it may have one; without a status, with its newest."""
        said = facts.said
        if said is not None and said.event.state not in ("failed", "expired"):
            return facts
        dlq, since_ms = self._all([self._names.dlq]), said.written_ms - CLOCK_MARGIN_MS if said else None
        found = list(self._letters(self._start_of(dlq, since_ms)))
        if said is not None and not any(letter.is_of(said.event) for letter in found):
            # It is of the transaction of the status, but may be visible a moment later.
            self._offsets.await_visible(self._offsets.written(dlq), _LAST_WORD_S)
            found = list(self._letters(self._start_of(dlq, since_ms)))
        # Their times are of the clocks of whoever settled them: where a letter is of the status, they do not matter.
        newest = max(
            found, key=lambda letter: (said is not None and letter.is_of(said.event), letter.died_ms), default=None
        )
        replayed_ms = facts.replayed_ms
        if newest is not None and said is None:
            replayed_ms = self._replayed_ms(newest.died_ms)
        replayed = newest is not None and newest.place in self._put_back
        return replace(facts, letter=newest, letter_replayed=replayed, replayed_ms=replayed_ms)

    def _letters(self, starts: Mapping[Partition, int]) -> Iterator[Letter]:
        """The letters of the task from there on."""
        for message in self._scanner.read(starts):
            if self._may_be_it(message):
                letter = letter_of(record_of(message))
                if self._id in (letter.task_id, letter.origin):
                    yield letter
