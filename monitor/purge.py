"""Purges dead letters: nobody sees or replays them any more, and Kafka deletes them as far as it can.

Invariant: a letter that is not in the audit as purged is never deleted. Kafka deletes from the beginning of a partition
only, so letters go from the disk up to the first one that was not purged; the others are marked, and go with a later
purge. Who is in the middle of a replay is fenced, as by another replay (see letter_transactions).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from itertools import islice
from typing import Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from fairlane.monitor.dlq import Dealt, oldest_first, stretch
from fairlane.monitor.errors import PurgeFailed
from fairlane.monitor.letter import letter_of
from fairlane.monitor.letter_transactions import LetterTransactions
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.replay_job import ReplayJob
from fairlane.monitor.scan import Partition, Scanner
from fairlane.topics.audit import PURGE, AuditRecord
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.denial import is_denial, missing, on_topic
from fairlane.topics.names import QueueNames

_AT_ONCE: Final = 500


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What a purge did.

    Attributes:
        job: its id.
        count: how many letters are purged by it.
        deleted: how many offsets of the DLQ Kafka deleted for it, those of earlier purges and markers too.
        waiting: how many purged letters lie behind one that is not, and stay on disk as yet.
        refused: why Kafka deleted nothing, or "".
    """

    job: str
    count: int
    deleted: int = 0
    waiting: int = 0
    refused: str = ""


def purge_letters(
    connection: Connection,
    names: QueueNames,
    job: ReplayJob,
    *,
    who: str,
    via: str = "",
    on_progress: Callable[[int], None] = lambda _: None,
    timeout_s: float = 30,
) -> Purged:
    """Purge the letters of a job instead of replaying them.

    Args:
        connection: to the cluster.
        names: of the queue.
        job: which letters, by its filter, ends and limit; with `replayed` in the filter those that were put back too.
        who: for the audit.
        via: where it was asked for, for the audit.
        on_progress: told after every transaction how many are purged.
        timeout_s: how long one answer of Kafka's may take, seconds.

    Raises:
        QueueUnknown: there is no such queue, or it has no audit.
        PurgeFailed: Kafka refused in the middle; it says how many were purged before.
        AuditUnreadable: which letters were dealt with is not to be seen now.
        KafkaUnreachable: no broker answered.
    """
    offsets = Offsets(connection, timeout_s=timeout_s)
    transactions = LetterTransactions(connection, names, timeout_s)
    with Scanner(connection, timeout_s=timeout_s, group=names.group) as scanner:
        dealt = transactions.dealt(scanner, job.id)
        marked = {place for place, record in dealt.newest.items() if record.action == PURGE}
        starts, ends = stretch(offsets, names, job.filter, transactions.topics[names.dlq])
        ends = {each: min(end, job.ends.get(str(each[1]), 0)) for each, end in ends.items()}

        def note(letter: str = "", task_id: str = "", phase: str = "", count: int = 0) -> AuditRecord:
            return AuditRecord(
                at_ms=now_ms(), who=who, via=via, action=PURGE, letter=letter, task_id=task_id, job=job.id,
                phase=phase, count=count, filter=job.filter.to_json() if phase else "",
            )  # fmt: skip

        count = 0
        with transactions.failing(lambda code, advice: PurgeFailed(count, code, advice)):
            with closing(_chosen(scanner, job, dealt, starts, ends)) as chosen:
                while batch := list(islice(chosen, _AT_ONCE)):
                    transactions.write((), [note(place, task_id) for place, task_id in batch])
                    marked.update(place for place, _ in batch)
                    count += len(batch)
                    on_progress(count)
            if count:
                transactions.write((), [note(phase="ended", count=count)])
        transactions.await_visible()
        cuts, firsts = _cuts(scanner, offsets, names, marked, transactions.topics[names.dlq])
    refused_why = _delete(connection, {each: cut for each, cut in cuts.items() if cut > firsts[each]}, timeout_s)
    deleted = 0 if refused_why else sum(cut - firsts[each] for each, cut in cuts.items())
    limits = firsts if refused_why else cuts
    waiting = sum(
        int(offset) >= limits.get((topic, int(number)), 0)
        for topic, number, offset in (place.rsplit("/", 2) for place in marked)
    )
    return Purged(job=job.id, count=count, deleted=deleted, waiting=waiting, refused=refused_why)


def _chosen(
    scanner: Scanner, job: ReplayJob, dealt: Dealt, starts: dict[Partition, int], ends: dict[Partition, int]
) -> Generator[tuple[str, str]]:
    """Place and task id of the letters that are to be purged."""
    count = 0
    with closing(oldest_first(scanner, starts, ends)) as records:
        for record in records:
            letter = letter_of(record)
            before = dealt.newest.get(letter.place)
            if before is not None and (before.action == PURGE or not job.filter.replayed):
                continue
            if job.filter.fits(letter):
                yield letter.place, letter.task_id
                count += 1
                if job.limit and count >= job.limit:
                    return


def _cuts(
    scanner: Scanner, offsets: Offsets, names: QueueNames, marked: set[str], partitions: int
) -> tuple[dict[Partition, int], dict[Partition, int]]:
    """Before which offset each partition may be deleted, and where each begins now."""
    asked = [(names.dlq, number) for number in range(partitions)]
    firsts, cuts = offsets.starts(asked), offsets.ends(asked)
    unseen = {each for each in asked if firsts[each] < cuts[each]}
    with closing(oldest_first(scanner, firsts, dict(cuts))) as records:
        for record in records:
            each = record.topic, record.partition
            if each in unseen and record.place not in marked:
                cuts[each] = record.offset
                unseen.discard(each)
                if not unseen:
                    break
    return cuts, firsts


def _delete(connection: Connection, cuts: dict[Partition, int], timeout_s: float) -> str:
    """Let Kafka delete what is before the cuts; returns why it does not, or ""."""
    if not cuts:
        return ""
    admin = AdminClient(connection.admin(), logger=librdkafka_log)
    places = [TopicPartition(*each, cut) for each, cut in cuts.items()]
    for answer in admin.delete_records(places, request_timeout=timeout_s).values():
        try:
            answer.result(timeout_s + 1)
        except KafkaException as error:
            refusal: KafkaError = error.args[0]
            if is_denial(refusal):
                return missing(refusal, "delete letters", connection, on_topic("Delete", next(iter(cuts))[0])).advice
            return f"{refusal.name()}: {refusal.str()}"
        except TimeoutError:
            return "no broker answered"
    return ""
