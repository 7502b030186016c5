"""What a replay from the log is: which tasks that ran, up to where; and what it makes of each record that it reads.

Invariant: no I/O of its own. A job is what is said here and nothing else: where it ends in each partition is fixed when
it is made, at what has run by then, so that neither what comes later nor what it writes itself is of it. A task is
taken by the record that first enqueued it, so once, however often it was tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from fairlane.monitor.discovery import default_type_of
from fairlane.monitor.job_id import job_id
from fairlane.monitor.record import Record
from fairlane.topics import condition, wire
from fairlane.topics.errors import MalformedRecord
from fairlane.topics.names import DEFAULT_LEVEL, Lane
from fairlane.topics.rerun import REPLAY_OF
from fairlane.topics.task import Task

Fate = Literal["sent", "replays", "malformed"]

_ORIGIN: Final = "fairlane-origin"
_SHOWN: Final = 10


class RerunFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which tasks: those that fit all that is said; what is empty or 0 says nothing.

    Attributes:
        lane: only of this lane: its topic.
        type: only of this task type.
        from_ms: only those that were enqueued then or later, by their record's timestamp, Unix ms.
        to_ms: only those that were enqueued before, Unix ms.
        where: only those for which this condition on payload or headers holds (see fairlane.topics.condition).

    Raises:
        UsageError: it is no condition.
    """

    lane: str = ""
    type: str = ""
    from_ms: int = 0
    to_ms: int = 0
    where: str = ""

    def __post_init__(self) -> None:
        if self.where:
            condition.parse(self.where)

    @property
    def chooses(self) -> bool:
        """Whether it says anything, so that it does not mean every task."""
        return self != RerunFilter()

    def in_time(self, at_ms: int) -> bool:
        """Whether a record of that time may be one of them."""
        return at_ms >= self.from_ms and (not self.to_ms or at_ms < self.to_ms)

    def fits(self, task: Task) -> bool:
        """Whether the task is one of them, if its record is in time."""
        if (self.lane and task.lane != self.lane) or (self.type and task.type != self.type):
            return False
        if not self.where:
            return True
        document = condition.document_of(task.payload)
        return condition.parse(self.where).holds(document, wire.producers_headers(task))

    def to_json(self) -> str:
        """What is said, as JSON; the same for equal filters."""
        return _encoder.encode(self).decode()


_encoder: Final = msgspec.json.Encoder(order="sorted")


class RerunJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A replay from the log.

    Attributes:
        queue: whose tasks.
        filter: which.
        ends: by `topic/partition`, the offset before which records are of it.
        again: also tasks that replays have written.
        limit: how many at most, the oldest; 0 is all.
        run: how many jobs like it have ended before.
    """

    queue: str
    filter: RerunFilter = RerunFilter()
    ends: dict[str, int]
    again: bool = False
    limit: int = 0
    run: int = 0

    @property
    def id(self) -> str:
        """12 hexadecimal digits that follow from all of it."""
        return job_id(self)


class Ran(msgspec.Struct, frozen=True):
    """A task that would run again: where and when it was enqueued, and what it was."""

    origin: str
    at_ms: int
    task_id: str
    type: str
    lane: str
    payload: bytes


class Gone(msgspec.Struct, frozen=True):
    """What the log does not have any more.

    Attributes:
        partitions: how many have lost records that may have been of the job.
        whole_from_ms: from when on the log has all of them, Unix ms; 0 where nothing is left to tell it.
    """

    partitions: int = 0
    whole_from_ms: int = 0


class RerunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a job would do now, as a dry run tells.

    Attributes:
        job: which.
        count: how many tasks would run again.
        kinds: how many of each task type and lane.
        oldest_ms: when the first of them was enqueued, Unix ms; 0 if there is none.
        newest_ms: and the last.
        before: how many the job has sent already.
        replays: how many were left out since replays wrote them.
        malformed: how many records were left out that are no task.
        unsettled: how many that fit were left out since they, or others before them, had not run when the job was made;
            of each partition the first thousand are looked at.
        gone: what the log does not have any more.
        first: the first that would run.
    """

    job: RerunJob
    count: int = 0
    kinds: tuple[tuple[str, str, int], ...] = ()
    oldest_ms: int = 0
    newest_ms: int = 0
    before: int = 0
    replays: int = 0
    malformed: int = 0
    unsettled: int = 0
    gone: Gone = Gone()
    first: tuple[Ran, ...] = ()


@dataclass
class RerunSelection:
    """Goes over the records of a job, the oldest first, and says which are the tasks that are to run again.

    Args:
        job: which.
        lanes: of the queue, by their topics.
        before: how many the job has sent already.
        shown: how many to remember for a dry run.
    """

    job: RerunJob
    lanes: Mapping[str, Lane]
    before: int = 0
    shown: int = _SHOWN
    fates: Counter[Fate] = field(default_factory=Counter)
    _kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    _times: tuple[int, int] = (0, 0)
    _first: list[Ran] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether the job has as many as it may have."""
        return bool(self.job.limit) and self.fates["sent"] + self.before >= self.job.limit

    def judge(self, record: Record) -> Task | None:
        """The task that the record enqueued, if it is of the job."""
        if self.full or record.value is None or not self.job.filter.in_time(record.timestamp_ms):
            return None
        names = {name for name, _ in record.headers}
        if _ORIGIN in names:
            # A later hop of a task, or a letter that was put back: its first record speaks for it.
            return None
        task = self._read(record, record.value)
        if task is None or not self.job.filter.fits(task):
            return None
        if REPLAY_OF in names and not self.job.again:
            self.fates["replays"] += 1
            return None
        self._count(record, task)
        return task

    def _read(self, record: Record, value: bytes) -> Task | None:
        lane = self.lanes.get(record.topic)
        try:
            task = wire.decode(
                record.topic, record.partition, record.offset, record.timestamp_ms, record.key, value, record.headers,
                lane=lane.topic if lane else None, priority=lane.level if lane else DEFAULT_LEVEL,
                default_type=default_type_of(lane),
            )  # fmt: skip
        except MalformedRecord:
            task = None
        if task is None or task.lane not in self.lanes:
            self.fates["malformed"] += 1
            return None
        return task

    def _count(self, record: Record, task: Task) -> None:
        self.fates["sent"] += 1
        self._kinds[task.type, task.lane] += 1
        at_ms = record.timestamp_ms
        self._times = (min(self._times[0] or at_ms, at_ms), max(self._times[1], at_ms))
        if len(self._first) < self.shown:
            self._first.append(Ran(record.place, at_ms, task.id, task.type, task.lane, task.payload))

    def plan(self, unsettled: int, gone: Gone) -> RerunPlan:
        """What was found."""
        return RerunPlan(
            job=self.job,
            count=self.fates["sent"],
            kinds=tuple((*kind, count) for kind, count in self._kinds.most_common()),
            oldest_ms=self._times[0],
            newest_ms=self._times[1],
            before=self.before,
            replays=self.fates["replays"],
            malformed=self.fates["malformed"],
            unsettled=unsettled,
            gone=gone,
            first=tuple(self._first),
        )


def by_topic(lanes: Sequence[Lane]) -> dict[str, Lane]:
    """The lanes by their topics."""
    return {lane.topic: lane for lane in lanes}
