"""One transaction of the settler: its calls, their errors, and what Kafka refused of it.

Invariant: a transaction ends as committed, as aborted, or with the producer given up; there is no fourth way out. This
is the only place that calls the transactional producer.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import time
from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from fairlane.consumer.assignment import Lease
from fairlane.consumer.bounded_call import BoundedCaller, CallLost
from fairlane.consumer.ledger import OffsetToCommit
from fairlane.consumer.settle_meter import SettleMeter
from fairlane.consumer.settle_records import Record
from fairlane.consumer.settlement import TRANSACTION_TIMEOUT_S, Call, ErrorFlags, Next, Refusal, after
from fairlane.topics.connection import Connection
from fairlane.topics.denial import missing, on_topic
from fairlane.topics.denied_writes import DeniedWrites
from fairlane.topics.missing_topics import missing_topics
from fairlane.topics.trouble import Trouble

CALL_TIMEOUT_S: Final = 10.0
GRACE_S: Final = 5.0
"""How much longer than its timeout a call may take before it is lost."""
FLUSH_S: Final = 0.05
BACKOFF_S: Final = 0.1
_REFUSED_FOR_GOOD: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
        KafkaError._INVALID_ARG,  # noqa: SLF001
    }
)
_logger = logging.getLogger("fairlane.settler")


class ProducerGivenUp(Exception):
    """The producer can do no more: it was fenced, or it failed for good. Not one of these outcomes is settled by it.

    Attributes:
        code: Kafka's name of the error, where there was one.
    """

    def __init__(self, cause: str, code: str = "") -> None:
        super().__init__(cause)
        self.code = code


class Aborted(Exception):
    """The transaction was aborted.

    Attributes:
        refusals: records that Kafka refused for good, if any was.
        late: records that Kafka did not take in time.
        code: Kafka's name of the error of the call that failed, if one did.
    """

    def __init__(
        self, cause: str, refusals: tuple[Refusal, ...] = (), late: tuple[Refusal, ...] = (), code: str = ""
    ) -> None:
        super().__init__(cause)
        self.refusals = refusals
        self.late = late
        self.code = code


def transactional_properties(connection: Connection, transactional_id: str) -> dict[str, Any]:
    """Librdkafka properties of a producer that settles."""
    properties = connection.producer(
        # The default of 100 ms is what back-to-back transactions wait for each other: 98 ms instead of 7.
        retry_backoff_ms=10,
        linger_ms=2,
        # An outbox topic that does not exist is told after a second, not after the 30 that a new one may need.
        topic_metadata_propagation_max_ms=1_000,
        # The broker decides what is too large: a limit of our own would name no outcome.
        message_max_bytes=100_000_000,
        queue_buffering_max_messages=200_000,
    )
    properties["transactional.id"] = transactional_id
    # A record that cannot be delivered is told well before the broker ends the transaction, which would cost the
    # producer. Whatever a user says of an enqueue: librdkafka refuses one that takes longer than a transaction may.
    properties["transaction.timeout.ms"] = round(TRANSACTION_TIMEOUT_S * 1000)
    properties["message.timeout.ms"] = round(TRANSACTION_TIMEOUT_S * 600)
    properties["delivery.report.only.error"] = True
    return properties


def flags(error: KafkaException) -> ErrorFlags:
    """The flags of an error of a transactional call."""
    kafka: KafkaError = error.args[0]
    return ErrorFlags(kafka.name(), kafka.retriable(), kafka.txn_requires_abort(), kafka.fatal())


class TransactionalProducer:
    """A producer with a transactional id of its own.

    Args:
        connection: to Kafka.
        transactional_id: unique per process start; whoever takes over a dead worker fences this id.
        stopping: tells that nobody waits for the outcome any more.
        newest: gives the lease of this moment.
        meter: counts the calls that are made again.
    """

    def __init__(
        self,
        connection: Connection,
        transactional_id: str,
        stopping: Callable[[], bool],
        newest: Callable[[], Lease],
        meter: SettleMeter | None = None,
    ) -> None:
        self.transactional_id = transactional_id
        self._connection = connection
        self._stopping = stopping
        self._newest = newest
        self._denied_writes = DeniedWrites()
        self._properties = transactional_properties(connection, transactional_id)
        self._producer = Producer(self._properties, logger=self._denied_writes)
        self._meter = meter or SettleMeter()
        self._refusals: list[Refusal] = []
        self._late: list[Refusal] = []
        self._began = 0.0
        self._caller = BoundedCaller("fairlane-transaction")
        self._lost = False

    def init(self) -> None:
        """Register the id; retries until Kafka answers.

        Raises:
            ProducerGivenUp: it failed for good, or nobody waits any more.
        """
        trouble = Trouble()
        while True:
            try:
                self._bounded(partial(self._producer.init_transactions, CALL_TIMEOUT_S))
                return
            except KafkaException as error:
                found = flags(error)
                if not found.retriable or self._stopping():
                    raise ProducerGivenUp(f"init_transactions: {error.args[0].str()}", found.code) from error
                self._meter.repeated += 1
                if trouble.tell(found.code, time.monotonic()):
                    _logger.warning("transactions cannot begin yet (%s); trying again", found.code)
                time.sleep(BACKOFF_S)

    def run(self, records: Sequence[tuple[int, Record]], offsets: Sequence[OffsetToCommit], lease: Lease) -> None:
        """Write records and offsets together.

        Args:
            records: each with the index of its outcome.
            offsets: to commit.
            lease: under which; its metadata goes with the offsets.

        Raises:
            Aborted: nothing of it was written.
            ProducerGivenUp: nothing of it was written, unless the commit's answer was lost and it was; the offsets that
                Kafka has tell which.
        """
        self._refusals.clear()
        self._late.clear()
        self._denied_writes.topics.clear()
        self._began = time.monotonic()
        try:
            self._call(Call.BEGIN, self._producer.begin_transaction)
            self._produce(records)
            if self._refusals:
                # Known before anything was sent: all of them at once, or each would cost a transaction of its own.
                raise _MustAbort(f"{self._refusals[0].topic}: {self._refusals[0].detail}")
            if offsets:
                positions = [
                    TopicPartition(each.assigned.topic, each.assigned.partition, each.offset, each.metadata)
                    for each in offsets
                ]
                self._call(
                    Call.SEND_OFFSETS,
                    partial(self._producer.send_offsets_to_transaction, positions, lease.metadata, CALL_TIMEOUT_S),
                )
            self._await_delivery()
            self._look_what_left(offsets)
            self._call(Call.COMMIT, partial(self._producer.commit_transaction, CALL_TIMEOUT_S))
        except _MustAbort as cause:
            self._note_denied(records)
            try:
                self._call(Call.ABORT, partial(self._producer.abort_transaction, CALL_TIMEOUT_S))
            except _NothingBegun:
                # With another producer the same outcomes can be settled; given up, they would be run again for ever.
                self._replace()
            self._note_missing(records)
            raise Aborted(str(cause), tuple(self._refusals), tuple(self._late), cause.code) from None
        except (KafkaException, SystemError) as error:
            # Flush and poll raise a fatal error when they are the first to hear of it.
            raise ProducerGivenUp(f"the producer failed for good: {error}") from error

    def _await_delivery(self) -> None:
        # The commit would wait too, but behind a refused record those of its partition wait until they time out.
        while self._producer.flush(FLUSH_S):
            if self._refusals or self._late:
                raise _MustAbort("Kafka refused a record")

    def _look_what_left(self, offsets: Sequence[OffsetToCommit]) -> None:
        """Commit no offset of a partition that left while its transaction was on its way.

        A member that gives partitions back twice in a row keeps its epoch until it is through with both, so Kafka takes
        offsets of the first ones from it when somebody else has them already. What was sent before they left, the new
        owner waits for; what was sent after that is seen here, since the lease of a partition ends before Kafka hears.
        """
        newest = self._newest()
        if not all(newest.holds(each.assigned) for each in offsets):
            raise _MustAbort("partitions left while their offsets were sent")

    def _detail(self, topic: str, error: KafkaError) -> str:
        is_denied = error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        return missing(error, "", self._connection, on_topic("Write", topic)).advice if is_denied else error.str()

    def close(self) -> None:
        """Drop what is queued; a transaction that is open is aborted by the broker in time."""
        if self._lost:
            return
        self._caller.close()
        self._drop_queued()

    def _drop_queued(self) -> None:
        with contextlib.suppress(KafkaException, SystemError):
            self._producer.purge()
            self._producer.flush(1.0)

    def _bounded(self, method: Callable[[], Any]) -> None:
        try:
            self._caller.call(method, CALL_TIMEOUT_S + GRACE_S)
        except CallLost as lost:
            self._lost = True
            # Its end would wait for the call that is lost: it is never to be destroyed, not even with the process.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
            raise ProducerGivenUp(f"a call to Kafka does not return: {lost}") from lost

    def _produce(self, records: Sequence[tuple[int, Record]]) -> None:
        produce, failed = self._producer.produce, self._failed
        for index, record in records:
            headers: Any = record.headers
            if headers.__class__ is not list:
                headers = list(headers)
            told = _Told(failed, index, record.topic)
            while True:
                try:
                    # By place, which costs half of what it costs by name. A partition of -1, which a record has that is
                    # for any, lets the partitioner choose.
                    produce(record.topic, record.value, record.key, record.partition, told, None, 0, headers)
                except BufferError:
                    self._producer.poll(0.05)
                    continue
                except KafkaException as error:
                    self._failed(index, record.topic, error.args[0])
                    if error.args[0].code() not in _REFUSED_FOR_GOOD:
                        raise _MustAbort(f"{record.topic}: {error.args[0]}") from error
                except (TypeError, ValueError) as error:
                    # A record of a handler's that is none: its own outcome pays for it, not the worker.
                    self._refusals.append(Refusal(index, record.topic, "INVALID_RECORD", str(error)))
                break

    def _failed(self, index: int, topic: str, error: KafkaError) -> None:
        if error.code() in _REFUSED_FOR_GOOD:
            self._refusals.append(Refusal(index, topic, error.name(), self._detail(topic, error)))
        elif error.code() == KafkaError._MSG_TIMED_OUT:
            self._late.append(Refusal(index, topic, error.name(), error.str()))

    def _note_denied(self, records: Sequence[tuple[int, Record]]) -> None:
        """Refuse the records of topics that the transaction may not write to, of which there is no report."""
        with contextlib.suppress(KafkaException, SystemError):
            self._producer.poll(0)
        self._refuse(self._denied_writes.topics, KafkaError.TOPIC_AUTHORIZATION_FAILED, records)

    def _note_missing(self, records: Sequence[tuple[int, Record]]) -> None:
        """Refuse the records of topics that were deleted, for which librdkafka waits in vain."""
        if self._late and not self._refusals:
            late = {each.topic for each in self._late}
            self._refuse(missing_topics(self._connection, late), KafkaError.UNKNOWN_TOPIC_OR_PART, records)

    def _refuse(self, topics: Set[str], code: int, records: Sequence[tuple[int, Record]]) -> None:
        for topic in topics - {refusal.topic for refusal in self._refusals}:
            for index in {index for index, record in records if record.topic == topic}:
                self._failed(index, topic, KafkaError(code))

    def _replace(self) -> None:
        """Go on with a new producer of the same id: its initialisation ends whatever the old one left."""
        self._drop_queued()
        self._producer = Producer(self._properties, logger=self._denied_writes)
        self.init()

    def _call(self, call: Call, method: Callable[[], Any]) -> None:
        tries = 0
        while True:
            tries += 1
            try:
                self._bounded(method)
                return
            except SystemError as error:
                # confluent-kafka 2.16 goes on calling back after it has an exception of a fatal error to raise.
                raise ProducerGivenUp(f"{call.value}: the producer failed for good") from error
            except KafkaException as error:
                found = flags(error)
                if call is Call.ABORT and found.code == "INVALID_TXN_STATE" and self._denied_writes.topics:
                    raise _NothingBegun from error
                follows = after(call, found, open_s=time.monotonic() - self._began)
                cause = f"{call.value}: {found.code}: {error.args[0].str()}"
                if follows is Next.GIVE_UP or (follows is Next.AGAIN and tries > 3 and self._stopping()):
                    raise ProducerGivenUp(cause, found.code) from error
                if follows is Next.ABORT:
                    raise _MustAbort(cause, found.code) from error
                self._meter.repeated += 1
                time.sleep(min(1.0, BACKOFF_S * tries))


class _Told(msgspec.Struct, gc=False):
    """What Kafka's client tells of a record; a partial would be the garbage collector's to look at, for each record."""

    failed: Callable[[int, str, KafkaError], None]
    index: int
    topic: str

    def __call__(self, error: KafkaError | None, _message: Message | None) -> None:
        if error is not None:
            self.failed(self.index, self.topic, error)


class _MustAbort(Exception):
    def __init__(self, cause: str, code: str = "") -> None:
        super().__init__(cause)
        self.code = code


class _NothingBegun(Exception):
    """Kafka let nothing into the transaction, so it knows of none to abort, which librdkafka takes for fatal."""
