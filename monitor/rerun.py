"""Runs again what ran: tasks that lanes and tiers still have, as new tasks that are linked to the old ones.

Invariant: each task of a job is written once, whoever runs the job and how often. The new tasks and how far the job is
are one transaction (see audit_transactions), of an id that is the job's own: who runs it again fences the one before,
reads how far that came, and goes on there. Jobs of other ids do not hinder it, nor does dealing with dead letters.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Final

import msgspec
from msgspec.structs import replace

from fairlane.monitor.audit_log import another_run, started_job
from fairlane.monitor.audit_transactions import AuditTransactions, Outgoing
from fairlane.monitor.dlq import oldest_first
from fairlane.monitor.errors import ReplayFailed
from fairlane.monitor.job_control import JobControl
from fairlane.monitor.job_run import JobRun, Progress
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.record import record_of
from fairlane.monitor.rerun_job import Gone, RerunFilter, RerunJob, RerunPlan, RerunSelection
from fairlane.monitor.rerun_log import (
    History,
    Log,
    Stretch,
    ends_now,
    history_of,
    place_of,
    stretch_of,
    unsettled_of,
)
from fairlane.monitor.scan import Partition, Scanner
from fairlane.topics import tracing
from fairlane.topics.audit import PROGRESS, RERUN, AuditRecord
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.names import QueueNames
from fairlane.topics.rerun import headers_of, rerun
from fairlane.topics.task import Task

KEEP_S: Final = 7 * 86_400.0
"""How long what is settled stays in the log by default (`keep_s`)."""

_NOTED: Final = 1_000
_LOOKED_AT: Final = 1_000


class Rerun(msgspec.Struct, frozen=True):
    """A task that ran, and the new one that runs it again: its id, and where it is."""

    origin: str
    old_id: str
    task_id: str
    to: str
    partition: int
    offset: int


class RerunReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job.

    Attributes:
        job: its id.
        ended: whether it is done; False where it was stopped and can be resumed.
        count: how many tasks were written now.
        before: how many it had written before it was resumed.
        elapsed_s: how long it took, seconds.
        gone: what the log did not have any more.
        done: the first that were written.
    """

    job: str
    ended: bool
    count: int
    before: int = 0
    elapsed_s: float = 0.0
    gone: Gone = Gone()
    done: tuple[Rerun, ...] = ()


def new_rerun(
    connection: Connection,
    names: QueueNames,
    wanted: RerunFilter,
    *,
    again: bool = False,
    limit: int = 0,
    timeout_s: float = 30,
) -> RerunJob:
    """A job on the tasks that have run by now.

    Args:
        connection: to the cluster.
        names: of the queue.
        wanted: which tasks.
        again: also those that replays have written; and once more where a job like it has ended.
        limit: at most so many, the oldest; 0 is all.
        timeout_s: how long one answer of Kafka's may take, seconds.

    Raises:
        QueueUnknown: there is no such queue, or it has no audit.
        UsageError: it has no such lane.
        KafkaUnreachable: no broker answered.
    """
    offsets = Offsets(connection, timeout_s=timeout_s)
    with Scanner(connection, timeout_s=timeout_s, group=names.group) as scanner:
        log = Log.of(connection, names, scanner, offsets, wanted.lane)
        ends = ends_now(log, names, scanner, offsets, wanted)
    job = RerunJob(queue=names.queue, filter=wanted, ends=ends, again=again, limit=limit)
    return another_run(connection, names, job, RERUN, timeout_s=timeout_s) if again else job


def rerun_of(connection: Connection, names: QueueNames, job: str, *, timeout_s: float = 30) -> RerunJob:
    """The job of that id, as it was started.

    Raises:
        JobUnknown: the audit has no such job.
        Others: as of `read_audit`.
    """
    return started_job(connection, names, job, RerunJob, timeout_s=timeout_s)


def plan_rerun(
    connection: Connection,
    names: QueueNames,
    job: RerunJob,
    *,
    shown: int = 10,
    keep_s: float | None = KEEP_S,
    timeout_s: float = 30,
) -> RerunPlan:
    """What a job would do now, or what is left of it: a dry run, which writes nothing and disturbs nobody.

    Args:
        connection: to the cluster.
        names: of the queue.
        job: which.
        shown: how many of the tasks to show.
        keep_s: how long the queue keeps what is settled, seconds; None is for ever.
        timeout_s: how long reading a window of records may take, seconds.

    Raises:
        QueueUnknown: there is no such queue, or it has no audit.
        KafkaUnreachable: no broker answered.
    """
    with _Reading(connection, names, job, keep_s, timeout_s) as reading:
        history = reading.history()
        stretch = reading.stretch(history)
        selection = reading.selection(history, shown)
        if not history.ended:
            for _ in reading.chosen(stretch, selection, {}):
                pass
        return selection.plan(reading.waiting(), stretch.gone)


def run_rerun(
    connection: Connection,
    names: QueueNames,
    job: RerunJob,
    *,
    who: str,
    via: str = "",
    per_s: float | None = None,
    control: JobControl | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    plan: RerunPlan | None = None,
    keep_s: float | None = KEEP_S,
    timeout_s: float = 30,
) -> RerunReport:
    """Run the tasks of a job again, or the rest of them, the oldest first: each once, whoever runs it and how often.

    Args:
        connection: to the cluster.
        names: of the queue.
        job: which; one that was stopped or killed goes on.
        who: for the audit.
        via: where it was asked for, for the audit.
        per_s: how many a second; None is as fast as Kafka takes them.
        control: pauses and stops it.
        on_progress: told after every transaction, and first before any, on this thread.
        plan: a dry run of it, so as not to make another one to know how many there are.
        keep_s: how long the queue keeps what is settled, seconds; None is for ever.
        timeout_s: how long one answer of Kafka's may take, seconds.

    Raises:
        QueueUnknown: there is no such queue, or it has no audit.
        ReplayFailed: Kafka refused in the middle; it says how many were written before.
        AuditUnreadable: how far the job came is not to be seen now.
        KafkaUnreachable: no broker answered.
    """
    if plan is None:
        plan = plan_rerun(connection, names, job, shown=0, keep_s=keep_s, timeout_s=timeout_s)
    transactions = AuditTransactions(connection, names, timeout_s, job.id)
    transactions.await_audit()
    with _Reading(connection, names, job, keep_s, timeout_s) as reading:
        # Only from here on nobody else can be in the middle of it: what the audit says of it now stays true.
        history = reading.history()
        if history.ended:
            return RerunReport(job=job.id, ended=True, count=0, before=history.done)
        writer = _Writer(transactions, job, history, who, via, JobRun(plan.count, per_s, control, on_progress))
        return writer.run(reading)


class _Reading:
    """Reads the log for a job."""

    def __init__(
        self, connection: Connection, names: QueueNames, job: RerunJob, keep_s: float | None, timeout_s: float
    ) -> None:
        self._names = names
        self._job = job
        self._kept_from_ms = 1 if keep_s is None else now_ms() - round(keep_s * 1_000)
        self._offsets = Offsets(connection, timeout_s=timeout_s)
        self._scanner = Scanner(connection, timeout_s=timeout_s, group=names.group)
        self._log = Log.of(connection, names, self._scanner, self._offsets, job.filter.lane)

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, *raised: object) -> None:
        self._scanner.close()

    def history(self) -> History:
        self._scanner.renew()
        return history_of(self._scanner, self._names, self._log.topics, self._job.id)

    def selection(self, history: History, shown: int = 0) -> RerunSelection:
        return RerunSelection(self._job, self._log.lanes, history.done, shown)

    def stretch(self, history: History) -> Stretch:
        self._scanner.renew()
        return stretch_of(self._log, self._scanner, self._offsets, self._job, history.next, self._kept_from_ms)

    def chosen(self, stretch: Stretch, selection: RerunSelection, position: dict[Partition, int]) -> Generator[Task]:
        """The tasks that are to run again, the oldest first; `position` says from where on nothing was read."""
        with closing(oldest_first(self._scanner, stretch.starts, stretch.ends)) as records:
            for record in records:
                position[record.topic, record.partition] = record.offset + 1
                task = selection.judge(record)
                if task is not None:
                    yield task
                elif selection.full:
                    return

    def waiting(self) -> int:
        """How many that fit had not been settled when the job was made; of each partition the first are looked at."""
        starts, ends = unsettled_of(self._log, self._names, self._offsets, self._job)
        selection = self.selection(History())
        self._scanner.renew()
        for message in self._scanner.read(starts, ends, dict.fromkeys(starts, _LOOKED_AT)):
            selection.judge(record_of(message))
        return selection.fates["sent"]


class _Writer:
    """Writes the new tasks of a job."""

    def __init__(
        self, transactions: AuditTransactions, job: RerunJob, history: History, who: str, via: str, run: JobRun
    ) -> None:
        self._transactions = transactions
        self._job = job
        self._history = history
        self._who = who
        self._via = via
        self._run = run
        self._began_ms = history.began_ms or now_ms()
        self._next = dict(history.next)

    def run(self, reading: _Reading) -> RerunReport:
        run, history = self._run, self._history
        first: list[Rerun] = []
        position = dict(history.next)
        stretch = reading.stretch(history)
        if run.total or history.began_ms:
            self._write(self._started())
        with closing(reading.chosen(stretch, reading.selection(history), position)) as chosen:
            for batch in run.batches(chosen):
                self._next = dict(position)
                first += self._send(batch)[: _NOTED - len(first)]
        if run.ended:
            self._next = position
        if run.total or history.began_ms:
            self._write(self._note("ended" if run.ended else "stopped", run.done))
        self._transactions.await_visible()
        return RerunReport(
            job=self._job.id, ended=run.ended, count=run.done, before=history.done, elapsed_s=run.elapsed_s,
            gone=stretch.gone, done=tuple(first),
        )  # fmt: skip

    def _send(self, batch: list[Task]) -> list[Rerun]:
        at_ms = now_ms()
        made = [rerun(old, job=self._job.id, began_ms=self._began_ms, now_ms=at_ms) for old in batch]
        traced = [tracing.start_rerun(task, task.lane, old) for task, old in zip(made, batch, strict=True)]
        records = [Outgoing(task.lane, task.value, task.key, headers_of(task)) for task, _ in traced]
        try:
            places = self._write(self._note(PROGRESS, self._run.done + len(batch)), records)
        except ReplayFailed as failed:
            for _, span in traced:
                tracing.end_send(span, error=failed)
            raise
        for (_, span), (partition, offset) in zip(traced, places, strict=True):
            tracing.end_send(span, partition=partition, offset=offset)
        return [
            Rerun(str(old.origin), old.id, task.id, task.lane, *place)
            for old, task, place in zip(batch, made, places, strict=True)
        ]

    def _write(self, note: AuditRecord, records: Sequence[Outgoing] = ()) -> list[tuple[int, int]]:
        run, job = self._run, self._job
        with self._transactions.failing(
            lambda code, advice: ReplayFailed(
                run.done, run.total, code, advice, job.queue, job.id, "tasks", "fairlane replay"
            )
        ):
            return self._transactions.write(records, [note])

    def _started(self) -> AuditRecord:
        """What resumes the job; its first one says when it began, which the ids of its tasks follow from."""
        at_ms = now_ms() if self._history.began_ms else self._began_ms
        return replace(self._note("started", self._run.total), at_ms=at_ms, details=msgspec.to_builtins(self._job))

    def _note(self, phase: str, count: int) -> AuditRecord:
        """How far the job is, when what is written with it is done."""
        done = self._history.done + count
        return AuditRecord(
            at_ms=now_ms(), who=self._who, via=self._via, action=RERUN, job=self._job.id, phase=phase,
            filter=self._job.filter.to_json(), count=count,
            details={"done": done, "next": {place_of(each): offset for each, offset in self._next.items()}},
        )  # fmt: skip
