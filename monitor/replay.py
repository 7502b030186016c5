"""Puts dead letters back into the lanes they came from: looks first, then sends, at a rate.

Invariant: what a dry run counts is what is sent, unless somebody else deals with a letter in between; each batch is
one transaction (see letter_transactions), so a job that was stopped or killed has sent whole batches, and goes on
behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from typing import Final, TypedDict

import msgspec
from typing_extensions import Unpack

from fairlane.monitor.audit_log import another_run
from fairlane.monitor.audit_transactions import Outgoing
from fairlane.monitor.dlq import dealt_with, oldest_first, stretch
from fairlane.monitor.edit import Edit
from fairlane.monitor.errors import LettersUnfit, ReplayFailed
from fairlane.monitor.heartbeats import lanes_in_use
from fairlane.monitor.job_control import JobControl
from fairlane.monitor.job_run import JobRun, Progress
from fairlane.monitor.letter import Letter, letter_of
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.letter_transactions import LetterTransactions
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.replay_job import Plan, Planned, ReplayJob, Selection, Validate
from fairlane.monitor.scan import Scanner
from fairlane.topics import tracing, wire
from fairlane.topics.audit import REPLAY, AuditRecord
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.errors import QueueUnknown
from fairlane.topics.names import Lane, QueueNames
from fairlane.topics.task import Task

_NOTED: Final = 1_000


class Replayed(msgspec.Struct, frozen=True):
    """A letter that was put back, and where it is now."""

    letter: str
    task_id: str
    to: str
    partition: int
    offset: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job.

    Attributes:
        job: its id.
        ended: whether it is done; False where it was stopped and can be resumed.
        count: how many letters were sent.
        dealt: how many fitting ones were left out since they were dealt with before.
        looping: how many since they had been put back too often.
        unfit: how many since they would not do.
        elapsed_s: how long it took, seconds.
        done: the first that were sent.
    """

    job: str
    ended: bool
    count: int
    dealt: int = 0
    looping: int = 0
    unfit: int = 0
    elapsed_s: float = 0.0
    done: tuple[Replayed, ...] = ()


class How(TypedDict, total=False):
    """How a replay is done: the fields of a `ReplayJob` of these names."""

    edit: Edit | None
    again: bool
    loops: int
    limit: int
    skip_unfit: bool


def new_job(
    connection: Connection,
    names: QueueNames,
    wanted: LetterFilter,
    *,
    timeout_s: float = 30,
    **how: Unpack[How],
) -> ReplayJob:
    """A job on the letters that there are now.

    Args:
        connection: to the cluster.
        names: of the queue.
        wanted: which letters.
        timeout_s: how long one answer of Kafka's may take, seconds.
        how: the other fields of a `ReplayJob`.

    Raises:
        QueueUnknown: there is no such queue.
        KafkaUnreachable: no broker answered.
    """
    offsets = Offsets(connection, timeout_s=timeout_s)
    topics = offsets.topics(names)
    if names.dlq not in topics:
        raise QueueUnknown(names.queue, names.dlq, connection.bootstrap)
    ends = offsets.ends([(names.dlq, number) for number in range(topics[names.dlq])])
    job = ReplayJob(
        queue=names.queue,
        filter=wanted,
        ends={str(partition): end for (_, partition), end in sorted(ends.items())},
        **how,
    )
    return another_run(connection, names, job, REPLAY, timeout_s=timeout_s) if job.again else job


def plan_replay(
    connection: Connection,
    names: QueueNames,
    job: ReplayJob,
    *,
    validate: Validate | None = None,
    lanes: Sequence[Lane] | None = None,
    shown: int = 10,
    timeout_s: float = 30,
) -> Plan:
    """What a job would do now: a dry run, which writes nothing and disturbs nobody.

    Args:
        connection: to the cluster.
        names: of the queue.
        job: which.
        validate: what the handlers would say of a payload; None where it is not known.
        lanes: the queue's lanes; those that are found by default.
        shown: how many of the letters to show.
        timeout_s: how long reading a window of letters may take, seconds.

    Raises:
        QueueUnknown: there is no such queue.
        KafkaUnreachable: no broker answered.
    """
    offsets = Offsets(connection, timeout_s=timeout_s)
    with Scanner(connection, timeout_s=timeout_s, group=names.group) as scanner:
        topics = offsets.topics(names)
        if names.dlq not in topics:
            raise QueueUnknown(names.queue, names.dlq, connection.bootstrap)
        dealt = dealt_with(scanner, names, topics, job.id)
        found = lanes or lanes_in_use(scanner, offsets, names, topics)
        selection = Selection(job, names, found, dealt, validate, shown)
        for _ in _chosen(scanner, offsets, names, selection, topics[names.dlq]):
            pass
    return selection.plan()


def run_replay(
    connection: Connection,
    names: QueueNames,
    job: ReplayJob,
    *,
    who: str,
    via: str = "",
    per_s: float | None = None,
    control: JobControl | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    validate: Validate | None = None,
    lanes: Sequence[Lane] | None = None,
    timeout_s: float = 30,
) -> Report:
    """Put the letters of a job back, or the rest of them, the oldest first: each once, whoever runs it and how often.

    Args:
        connection: to the cluster.
        names: of the queue.
        job: which; one that was stopped or killed goes on.
        who: for the audit.
        via: where it was asked for, for the audit.
        per_s: how many a second; None is as fast as Kafka takes them.
        control: pauses and stops it.
        on_progress: told after every transaction, and first before any, on this thread.
        validate: what the handlers would say of a payload; None where it is not known.
        lanes: the queue's lanes; those that are found by default.
        timeout_s: how long one answer of Kafka's may take, seconds.

    Raises:
        QueueUnknown: there is no such queue, or it has no audit.
        LettersUnfit: some would not do, and the job does not leave those out; nothing was sent.
        ReplayFailed: Kafka refused in the middle; it says how many were put back before.
        AuditUnreadable: which letters were dealt with is not to be seen now.
        KafkaUnreachable: no broker answered.
    """
    offsets = Offsets(connection, timeout_s=timeout_s)
    transactions = LetterTransactions(connection, names, timeout_s)
    topics = transactions.topics
    with Scanner(connection, timeout_s=timeout_s, group=names.group) as scanner:
        # Only from here on nobody else can be in the middle of a replay: what the audit says now stays true.
        dealt = transactions.dealt(scanner, job.id)
        found = lanes or lanes_in_use(scanner, offsets, names, topics)
        dry = Selection(job, names, found, dealt, validate, 0)
        for _ in _chosen(scanner, offsets, names, dry, topics[names.dlq]):
            pass
        plan = dry.plan()
        if plan.unfit and not job.skip_unfit:
            raise LettersUnfit(plan.unfit, plan.problems[:3])
        runner = _Runner(names, transactions, job, plan, who, via, JobRun(plan.count, per_s, control, on_progress))
        selection = Selection(job, names, found, dealt, validate, 0)
        with closing(_chosen(scanner, offsets, names, selection, topics[names.dlq])) as chosen:
            return runner.over(chosen)


class _Runner:
    """One run of a job, behind its dry run."""

    def __init__(
        self,
        names: QueueNames,
        transactions: LetterTransactions,
        job: ReplayJob,
        plan: Plan,
        who: str,
        via: str,
        run: JobRun,
    ) -> None:
        self._names = names
        self._transactions = transactions
        self._job = job
        self._plan = plan
        self._who = who
        self._via = via
        self._run = run

    def over(self, chosen: Iterator[Planned]) -> Report:
        plan, run = self._plan, self._run
        first: list[Replayed] = []
        if plan.count:
            with self._telling():
                self._transactions.write((), [self._note("started", plan.count)])
        for batch in run.batches(chosen):
            sent = self._send(batch)
            first += sent[: _NOTED - len(first)]
        if plan.count:
            with self._telling():
                self._transactions.write((), [self._note("ended" if run.ended else "stopped", run.done)])
        self._transactions.await_visible()
        return Report(
            job=self._job.id, ended=run.ended, count=run.done, dealt=plan.dealt, looping=plan.looping,
            unfit=plan.unfit, elapsed_s=run.elapsed_s, done=tuple(first),
        )  # fmt: skip

    def _send(self, batch: Sequence[Planned]) -> list[Replayed]:
        spans = [tracing.start_resend(_as_sent(planned.letter), planned.to) for planned in batch]
        try:
            with self._telling():
                places = self._transactions.write(
                    [_outgoing(planned) for planned in batch], [self._audit(planned) for planned in batch]
                )
        except ReplayFailed as failed:
            for span in spans:
                tracing.end_send(span, error=failed)
            raise
        for span, (partition, offset) in zip(spans, places, strict=True):
            tracing.end_send(span, partition=partition, offset=offset)
        return [
            Replayed(planned.letter.place, planned.letter.task_id, planned.to, *place)
            for planned, place in zip(batch, places, strict=True)
        ]

    def _telling(self) -> AbstractContextManager[None]:
        return self._transactions.failing(
            lambda code, advice: ReplayFailed(
                self._run.done, self._plan.count, code, advice, self._names.queue, self._job.id
            )
        )

    def _audit(self, planned: Planned) -> AuditRecord:
        letter = planned.letter
        return AuditRecord(
            at_ms=now_ms(), who=self._who, via=self._via, action=REPLAY, letter=letter.place, task_id=letter.task_id,
            to=planned.to, edited=planned.edited, job=self._job.id,
        )  # fmt: skip

    def _note(self, phase: str, count: int) -> AuditRecord:
        """A record of the job itself, with all that resumes it."""
        return AuditRecord(
            at_ms=now_ms(), who=self._who, via=self._via, action=REPLAY, job=self._job.id, phase=phase,
            filter=self._job.filter.to_json(), count=count, edited=self._job.edit is not None,
            details=msgspec.to_builtins(self._job) if phase == "started" else {},
        )  # fmt: skip


def _chosen(
    scanner: Scanner, offsets: Offsets, names: QueueNames, selection: Selection, partitions: int
) -> Generator[Planned]:
    """The letters of a job as they are to be sent, the oldest first."""
    job = selection.job
    starts, ends = stretch(offsets, names, job.filter, partitions)
    ends = {each: min(end, job.ends.get(str(each[1]), 0)) for each, end in ends.items()}
    with closing(oldest_first(scanner, starts, ends)) as records:
        for record in records:
            planned = selection.judge(letter_of(record))
            if planned is not None:
                yield planned
            elif selection.full:
                return


def _outgoing(planned: Planned) -> Outgoing:
    record = planned.letter.record
    return Outgoing(planned.to, planned.value, record.key, wire.replay(record.headers))


def _as_sent(letter: Letter) -> Task:
    """What a trace tells of a letter that is put back; its record is sent as it is, not made of this."""
    return Task(
        id=letter.task_id,
        type=letter.type,
        payload=b"",
        priority=letter.priority,
        replays=letter.replays + 1,
        traceparent=letter.traceparent,
        tracestate=letter.tracestate,
        key=letter.record.key,
        headers=tuple(letter.record.headers),
    )
