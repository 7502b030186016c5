"""Puts dead letters back into the lanes they came from.

Invariant: a letter's record in its lane and its record in the audit are of one transaction, and all replays of a queue
share one transactional id: Kafka lets only the newest of them go on. So a letter is put back once, whoever asks at the
same time, and a replay that dies in the middle blocks nobody longer than until the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fairlane.monitor import discovery
from fairlane.monitor.dlq import replays
from fairlane.monitor.errors import ReplayFailed
from fairlane.monitor.heartbeats import newest_beats, topics_read
from fairlane.monitor.letter import Letter
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.scan import Partition, Scanner, reaching
from fairlane.topics import tracing, wire
from fairlane.topics.audit import REPLAY, AuditRecord, encode_audit
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.connection import Connection
from fairlane.topics.denial import is_denial, missing, on_topic, on_transactions
from fairlane.topics.errors import QueueUnknown, RightMissing
from fairlane.topics.names import Lane, QueueNames
from fairlane.topics.routing import lane_for
from fairlane.topics.task import Task

_BATCH: Final = 500
_TRANSACTION_TIMEOUT_MS: Final = 30_000
_VISIBLE_S: Final = 5.0
_MESSAGE_MAX_BYTES: Final = 64 * 1_048_576


class Replayed(msgspec.Struct, frozen=True):
    """A letter that was put back, and where it is now."""

    letter: str
    task_id: str
    to: str
    partition: int
    offset: int


class Replays(msgspec.Struct, frozen=True):
    """What was put back, in the order asked for, and what was not because somebody had done so before."""

    done: tuple[Replayed, ...]
    refused: tuple[AuditRecord, ...]


def replay_letters(
    connection: Connection,
    names: QueueNames,
    letters: Sequence[Letter],
    *,
    who: str,
    now_ms: int,
    again: bool = False,
    lanes: Sequence[Lane] | None = None,
    timeout_s: float = 30,
) -> Replays:
    """Put letters back into their lanes, each once.

    Args:
        connection: to the cluster.
        names: of the queue.
        letters: which, in the order in which they are to stand in their lanes.
        who: for the audit.
        now_ms: for the audit, Unix ms.
        again: also those that were put back before.
        lanes: the queue's lanes; those that are found by default.
        timeout_s: how long one answer of Kafka's may take, seconds.

    Raises:
        QueueUnknown: there is no such queue.
        ReplayFailed: Kafka refused in the middle; it says how many were put back before.
        KafkaUnreachable: no broker answered.
    """
    offsets = Offsets(connection, timeout_s=timeout_s)
    topics = offsets.topics(names)
    if names.audit not in topics:
        raise QueueUnknown(names.queue, names.audit, connection.bootstrap)
    transactions = _Transactions(connection, names, timeout_s)
    # Only from here on nobody else can be in the middle of a replay: what the audit says now stays true.
    with Scanner(connection, timeout_s=timeout_s, group=names.group) as scanner:
        before = {} if again else replays(scanner, names, topics)
        if lanes is None:
            beats = newest_beats(scanner, offsets, names, topics, now_ms)
            lanes = discovery.lanes_of(names, topics, topics_read(beats))
    todo = [letter for letter in letters if letter.place not in before]
    done: list[Replayed] = []
    for start in range(0, len(todo), _BATCH):
        batch = todo[start : start + _BATCH]
        into = [lane_of(letter, names, lanes) for letter in batch]
        spans = [tracing.start_resend(_as_sent(letter), lane) for letter, lane in zip(batch, into, strict=True)]
        try:
            put_back = transactions.put_back(batch, into, who, now_ms)
        except KafkaException as error:
            refused: KafkaError = error.args[0]
            detail = refused.str()
            if is_denial(refused):
                detail = transactions.denied(refused, into).advice
            failed = ReplayFailed(len(done), len(todo), refused.name(), detail)
            for span in spans:
                tracing.end_send(span, error=failed)
            raise failed from error
        for span, each in zip(spans, put_back, strict=True):
            tracing.end_send(span, partition=each.partition, offset=each.offset)
        done += put_back
    offsets.await_visible(transactions.ends, _VISIBLE_S)
    return Replays(tuple(done), tuple(before[letter.place] for letter in letters if letter.place in before))


def lane_of(letter: Letter, names: QueueNames, lanes: Sequence[Lane]) -> str:
    """The lane that a letter came from: the one it names, else the one it was read from, else the one of its priority.

    Only a lane of the queue will do: anybody may have written the header of a malformed record.
    """
    topics = {lane.topic for lane in lanes}
    if letter.lane in topics:
        return letter.lane
    if letter.original is not None and letter.original.topic in topics:
        return letter.original.topic
    own = [lane for lane in lanes if names.owns(lane)] or lanes
    return lane_for(letter.priority, own).topic


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


class _Transactions:
    """The producer of replays: one transaction a batch."""

    def __init__(self, connection: Connection, names: QueueNames, timeout_s: float) -> None:
        self._connection = connection
        self._names = names
        self._timeout_s = timeout_s
        self._denied = ""
        self.ends: dict[Partition, int] = {}
        """The end of each partition that was written to, as far as it is known."""
        properties = connection.producer(
            transactional_id=f"{names.group}-replay",
            transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            retry_backoff_ms=10,
            compression_type="lz4",
            # How large a record may be is for the brokers to say: they have it in the DLQ already.
            message_max_bytes=_MESSAGE_MAX_BYTES,
        )
        self._producer = Producer(properties, logger=librdkafka_log)
        with reaching(connection, timeout_s, "replay", on_transactions(str(properties["transactional.id"]))):
            self._call(self._producer.init_transactions)

    def put_back(self, letters: Sequence[Letter], lanes: Sequence[str], who: str, now_ms: int) -> list[Replayed]:
        """All of them, or none and a KafkaException."""
        done: dict[int, Replayed] = {}
        self._producer.begin_transaction()
        try:
            for number, (letter, lane) in enumerate(zip(letters, lanes, strict=True)):
                self._produce(number, letter, lane, done)
                audit = AuditRecord(
                    at_ms=now_ms, who=who, action=REPLAY, letter=letter.place, task_id=letter.task_id, to=lane
                )
                self._producer.produce(self._names.audit, encode_audit(audit), audit.key, on_delivery=self._note)
            self._call(self._producer.commit_transaction)
        except KafkaException as error:
            # After a fatal error (another replay took over) there is nothing of ours left to abort.
            if not error.args[0].fatal():
                self._call(self._producer.abort_transaction)
            raise
        return [done[number] for number in range(len(letters))]

    def denied(self, error: KafkaError, lanes: Sequence[str]) -> RightMissing:
        """The error for a batch that Kafka does not allow into these lanes."""
        topic = self._denied or lanes[0]
        asked = on_topic("Write", topic), on_transactions(f"{self._names.group}-replay")
        return missing(error, "replay", self._connection, *asked)

    def _note(self, error: KafkaError | None, message: Message) -> None:
        # An error here makes the commit fail, which says it; but not of which topic it is.
        if error is not None:
            if is_denial(error) and not self._denied:
                self._denied = message.topic() or ""
        else:
            partition = (message.topic() or "", message.partition() or 0)
            self.ends[partition] = max(self.ends.get(partition, 0), (message.offset() or 0) + 1)

    def _produce(self, number: int, letter: Letter, lane: str, done: dict[int, Replayed]) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            self._note(error, message)
            if error is None:
                done[number] = Replayed(
                    letter.place, letter.task_id, lane, message.partition() or 0, message.offset() or 0
                )

        record = letter.record
        headers: list[tuple[str, str | bytes | None]] = [*wire.replay(record.headers)]
        self._producer.produce(lane, record.value, record.key, headers=headers, on_delivery=delivered)

    def _call(self, call: Callable[[float], None]) -> None:
        """The same call again as long as Kafka says that it may be."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return call(max(0.1, deadline - time.monotonic()))
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
