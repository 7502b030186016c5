"""Reads who did what to a queue.

Invariant: it only reads. What nobody can read is left out; a job is found by the record that it wrote before it did
anything.
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypeVar

import msgspec

from fairlane.monitor.errors import JobUnknown
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.replay_job import ReplayJob
from fairlane.monitor.rerun_job import RerunJob
from fairlane.monitor.scan import BEGINNING, Scanner
from fairlane.topics.audit import PROGRESS, AuditRecord, decode_audit
from fairlane.topics.connection import Connection
from fairlane.topics.errors import QueueUnknown
from fairlane.topics.names import QueueNames

_JOBS: Final = 10_000
"""So many records of jobs are looked through."""


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records: those that fit all that is said.

    Attributes:
        action: only of this action.
        who: only of this one.
        job: only of this job.
        since_ms: only since then, Unix ms.
        letters: also those of single letters of a job, and of its progress, not only those that say what it is.
    """

    action: str = ""
    who: str = ""
    job: str = ""
    since_ms: int = 0
    letters: bool = False

    def fits(self, record: AuditRecord) -> bool:
        """Whether the record is one of them."""
        return (
            (not self.action or record.action == self.action)
            and (not self.who or record.who == self.who)
            and (not self.job or record.job == self.job)
            and record.at_ms >= self.since_ms
            and (self.letters or not record.job or (not record.letter and record.phase != PROGRESS))
        )


def read_audit(
    connection: Connection, names: QueueNames, wanted: AuditFilter, *, limit: int, timeout_s: float = 30
) -> tuple[AuditRecord, ...]:
    """The newest records that fit, the newest first.

    Args:
        connection: to the cluster.
        names: of the queue.
        wanted: which.
        limit: at most how many.
        timeout_s: how long it may take, seconds.

    Raises:
        QueueUnknown: there is no such queue, or it has no audit.
        ReadIncomplete: there was more to read than the time allowed.
        KafkaUnreachable: no broker answered.
    """
    topics = Offsets(connection, timeout_s=timeout_s).topics(names)
    if names.audit not in topics:
        raise QueueUnknown(names.queue, names.audit, connection.bootstrap)
    found: deque[AuditRecord] = deque(maxlen=limit)
    with Scanner(connection, timeout_s=timeout_s, group=names.group) as scanner:
        starts = {(names.audit, number): BEGINNING for number in range(topics[names.audit])}
        for message in scanner.read(starts):
            record = decode_audit(message.value() or b"")
            if record is not None and wanted.fits(record):
                found.appendleft(record)
    return tuple(found)


_Job = TypeVar("_Job", ReplayJob, RerunJob)


def replay_of(connection: Connection, names: QueueNames, job: str, *, timeout_s: float = 30) -> ReplayJob:
    """The replay of dead letters of that id, as it was started.

    Raises:
        JobUnknown: the audit has no such replay.
        Others: as of `read_audit`.
    """
    return started_job(connection, names, job, ReplayJob, timeout_s=timeout_s)


def started_job(
    connection: Connection, names: QueueNames, job: str, kind: type[_Job], *, timeout_s: float = 30
) -> _Job:
    """The job of that kind and id, as it was started.

    Raises:
        JobUnknown: the audit has no such job.
        Others: as of `read_audit`.
    """
    for record in read_audit(connection, names, AuditFilter(job=job), limit=1_000, timeout_s=timeout_s):
        if record.phase == "started":
            try:
                found = msgspec.convert(record.details, kind)
            except msgspec.ValidationError:
                continue
            if found.id == job:
                return found
    raise JobUnknown(names.queue, job)


def another_run(connection: Connection, names: QueueNames, job: _Job, action: str, *, timeout_s: float = 30) -> _Job:
    """The job, or the first run of it that has not ended: to do it again means once more, unless the last was cut off.

    Raises:
        QueueUnknown, ReadIncomplete, KafkaUnreachable: as of `read_audit`.
    """
    done = read_audit(connection, names, AuditFilter(action=action), limit=_JOBS, timeout_s=timeout_s)
    ended = {record.job for record in done if record.phase == "ended"}
    while job.id in ended:
        job = msgspec.structs.replace(job, run=job.run + 1)
    return job
