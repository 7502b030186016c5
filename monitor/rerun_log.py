"""The part of the log that a replay reads: from where to where, what is gone of it, and how far the replay has come.

Invariant: it only reads. What the audit says of a job's progress was written with the tasks themselves, in one
transaction: everything before it has been sent, and nothing behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairlane.monitor import discovery
from fairlane.monitor.heartbeats import lanes_in_use
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.rerun_job import Gone, RerunFilter, RerunJob, by_topic
from fairlane.monitor.scan import BEGINNING, Partition, Scanner
from fairlane.topics.audit import RERUN, decode_audit
from fairlane.topics.connection import Connection
from fairlane.topics.errors import QueueUnknown, UsageError
from fairlane.topics.names import Lane, QueueNames


@dataclass(frozen=True)
class Log:
    """The lanes of a queue by their topics, and all partitions of lanes and tiers."""

    lanes: Mapping[str, Lane]
    partitions: tuple[Partition, ...]
    topics: Mapping[str, int]

    @classmethod
    def of(cls, connection: Connection, names: QueueNames, scanner: Scanner, offsets: Offsets, lane: str = "") -> Log:
        """What a queue has, of all lanes or of one; the tiers are of all, since a delayed task is first in one of them.

        Raises:
            QueueUnknown: there is no such queue, or it has no audit.
            UsageError: it has no such lane.
        """
        topics = offsets.topics(names)
        if names.audit not in topics:
            raise QueueUnknown(names.queue, names.audit, connection.bootstrap)
        lanes = by_topic(lanes_in_use(scanner, offsets, names, topics))
        if lane and lane not in lanes:
            raise UsageError(f"queue {names.queue!r} has no lane {lane!r}", f"It has: {', '.join(lanes) or 'none'}")
        read = [lane] if lane else [*lanes]
        read += [names.tier(tier) for tier in discovery.tiers_of(names, topics)]
        return cls(lanes, tuple((topic, number) for topic in read for number in range(topics[topic])), topics)


@dataclass
class History:
    """What the audit says of a job.

    Attributes:
        began_ms: when it was first started, Unix ms; 0 if it was not.
        done: how many tasks it has sent.
        next: by partition, the offset from which it goes on.
        ended: whether it is done.
    """

    began_ms: int = 0
    done: int = 0
    next: dict[Partition, int] = field(default_factory=dict)
    ended: bool = False


def history_of(scanner: Scanner, names: QueueNames, topics: Mapping[str, int], job: str) -> History:
    """What the audit says of the job of that id."""
    found = History()
    audit = [(names.audit, number) for number in range(topics[names.audit])]
    for message in scanner.read(dict.fromkeys(audit, BEGINNING)):
        record = decode_audit(message.value() or b"")
        if record is None or record.action != RERUN or record.job != job:
            continue
        if record.phase == "started":
            found.began_ms = found.began_ms or record.at_ms
        else:
            found.done = int(record.details.get("done", found.done))
            found.next |= {partition_of(place): offset for place, offset in record.details.get("next", {}).items()}
            found.ended = record.phase == "ended"
    return found


def partition_of(place: str) -> Partition:
    """The partition that `topic/partition` names."""
    topic, _, number = place.rpartition("/")
    return topic, int(number)


def place_of(partition: Partition) -> str:
    """`topic/partition`."""
    return f"{partition[0]}/{partition[1]}"


def ends_now(log: Log, names: QueueNames, scanner: Scanner, offsets: Offsets, wanted: RerunFilter) -> dict[str, int]:
    """Where a job ends that is made now: at what has run by now, and at its time; of partitions that have any of it."""
    commits = scanner.commits(log.partitions)
    ends = _ends_in_time(log, names, offsets, wanted)
    settled = {each: min(end, commits[each].offset) for each, end in ends.items() if each in commits}
    return {place_of(each): end for each, end in sorted(settled.items()) if end > 0}


def _ends_in_time(log: Log, names: QueueNames, offsets: Offsets, wanted: RerunFilter) -> dict[Partition, int]:
    ends = offsets.ends(log.partitions)
    if wanted.to_ms:
        # The times of a foreign lane may be of its producers, in any order: there each record is looked at.
        foreign = {lane.topic for lane in log.lanes.values() if not names.owns(lane)}
        own = [each for each in log.partitions if each[0] not in foreign]
        ends |= {each: min(ends[each], offset) for each, offset in offsets.since(own, wanted.to_ms).items()}
    return ends


@dataclass(frozen=True)
class Stretch:
    """What a job reads: of each partition from where to where, and what is gone of it."""

    starts: Mapping[Partition, int]
    ends: Mapping[Partition, int]
    gone: Gone


def stretch_of(
    log: Log, scanner: Scanner, offsets: Offsets, job: RerunJob, done: Mapping[Partition, int], kept_from_ms: int
) -> Stretch:
    """What is left to read of a job.

    Args:
        log: of the queue.
        scanner: reads the first record of what was trimmed.
        offsets: asks where partitions begin, by their index of times too.
        job: which.
        done: by partition, from where it goes on.
        kept_from_ms: since when nothing can have been trimmed, Unix ms: it tells what an empty partition may have lost.
    """
    fixed = {partition_of(place): end for place, end in job.ends.items()}
    ends = {each: fixed[each] for each in log.partitions if each in fixed}
    firsts = offsets.starts(ends)
    asked = dict.fromkeys(ends, 0)
    if job.filter.from_ms:
        since = offsets.since(ends, job.filter.from_ms)
        asked = {each: since.get(each, end) for each, end in ends.items()}
    asked |= {each: max(asked[each], offset) for each, offset in done.items() if each in asked}
    starts = {each: max(asked[each], first) for each, first in firsts.items()}
    cut = [each for each, first in firsts.items() if first > done.get(each, 0) and asked[each] <= first]
    left = {each: firsts[each] for each in cut if firsts[each] < ends[each]}
    whole_from_ms = 0
    for message in scanner.read(left, ends, dict.fromkeys(left, 1)):
        whole_from_ms = max(whole_from_ms, message.timestamp()[1])
    lost = len(cut) if job.filter.from_ms < kept_from_ms else len(left)
    return Stretch(starts, ends, Gone(lost, whole_from_ms))


def unsettled_of(log: Log, names: QueueNames, offsets: Offsets, job: RerunJob) -> tuple[dict[Partition, int], ...]:
    """From where to where each partition has records in time that had not been settled when the job was made."""
    ends = _ends_in_time(log, names, offsets, job.filter)
    firsts = offsets.starts(ends)
    starts = {each: max(job.ends.get(place_of(each), 0), firsts[each]) for each in ends}
    waiting = [each for each, start in starts.items() if start < ends[each]]
    return {each: starts[each] for each in waiting}, {each: ends[each] for each in waiting}
