"""Writes tasks into lanes and what is said of them into the audit, in one transaction.

Invariant: a thing is done if, and only if, the audit says so, and at most one process at a time can make it say so. All
who do the same kind of thing share one transactional id: whoever opens this aborts what its predecessor left open and
fences it, and only then may read the audit, up to all that was ever written to it. So what the audit does not name then
is not done, and stays so but for our own transactions. A crash anywhere leaves whole transactions.

Sources: KIP-98 (fencing by transactional id), KIP-447.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fairlane.monitor.errors import AuditUnreadable
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.scan import Partition, reaching
from fairlane.topics.audit import AuditRecord, encode_audit
from fairlane.topics.connection import Connection
from fairlane.topics.denial import is_denial, missing, on_topic, on_transactions
from fairlane.topics.denied_writes import DeniedWrites
from fairlane.topics.errors import FairlaneError, QueueUnknown
from fairlane.topics.headers import Headers
from fairlane.topics.names import QueueNames

_TRANSACTION_TIMEOUT_MS: Final = 30_000
_VISIBLE_S: Final = 5.0
_MESSAGE_MAX_BYTES: Final = 64 * 1_048_576


class Outgoing(msgspec.Struct, frozen=True):
    """A record that is to be written to a lane."""

    topic: str
    value: bytes | None
    key: bytes | None
    headers: Headers


class AuditTransactions:
    """The one who may do a kind of thing to a queue, until somebody else opens another for it.

    Args:
        connection: to the cluster.
        names: of the queue.
        timeout_s: how long one answer of Kafka's may take, seconds.
        kind: of thing, a part of the transactional id; "" is dealing with dead letters.

    Raises:
        QueueUnknown: the queue has no audit topic, or no DLQ.
        RightMissing: we may not do that.
        KafkaUnreachable: no broker answered.
    """

    def __init__(self, connection: Connection, names: QueueNames, timeout_s: float, kind: str = "") -> None:
        self._connection = connection
        self._names = names
        self._denied_writes = DeniedWrites()
        self._timeout_s = timeout_s
        self._offsets = Offsets(connection, timeout_s=timeout_s)
        self.topics = self._offsets.topics(names)
        """All topics of the cluster and how many partitions each has."""
        for topic in (names.dlq, names.audit):
            if topic not in self.topics:
                raise QueueUnknown(names.queue, topic, connection.bootstrap)
        self._ends: dict[Partition, int] = {}
        self._id = f"{names.group}-replay-{kind}" if kind else f"{names.group}-replay"
        properties = connection.producer(
            transactional_id=self._id,
            transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            retry_backoff_ms=10,
            compression_type="lz4",
            # How large a record may be is for the brokers to say: they have it in the DLQ already.
            message_max_bytes=_MESSAGE_MAX_BYTES,
        )
        self._producer = Producer(properties, logger=self._denied_writes)
        with reaching(connection, timeout_s, "replay", on_transactions(self._id)):
            self._call(self._producer.init_transactions)

    def await_audit(self) -> None:
        """Wait until the audit can be read up to all that was ever written to it: what it says of our kind is final.

        Raises:
            AuditUnreadable: somebody else's open transaction hides a part of it.
        """
        audit = [(self._names.audit, number) for number in range(self.topics[self._names.audit])]
        # What is committed behind an open transaction is not to be seen: what is done would seem not to be.
        if not self._offsets.await_visible(self._offsets.written(audit), self._timeout_s):
            raise AuditUnreadable(self._names.audit, self._timeout_s)

    def write(self, records: Sequence[Outgoing], audits: Sequence[AuditRecord]) -> list[tuple[int, int]]:
        """All of it, or none and a KafkaException.

        Returns:
            Partition and offset of each record.
        """
        places: dict[int, tuple[int, int]] = {}
        self._denied_writes.topics.clear()
        self._producer.begin_transaction()
        try:
            for number, record in enumerate(records):
                self._produce(number, record, places)
            for audit in audits:
                self._producer.produce(self._names.audit, encode_audit(audit), audit.key, on_delivery=self._note)
            self._call(self._producer.commit_transaction)
        except KafkaException as error:
            # After a fatal error (somebody else took over) there is nothing of ours left to abort.
            if not error.args[0].fatal():
                # Of a transaction that Kafka let nothing into it knows nothing to abort: what counts is why.
                with contextlib.suppress(KafkaException):
                    self._call(self._producer.abort_transaction)
            raise
        return [places[number] for number in range(len(records))]

    @contextmanager
    def failing(self, failed: Callable[[str, str], FairlaneError]) -> Iterator[None]:
        """Turns what Kafka refuses into an error made of its name of it and what to do about it."""
        try:
            yield
        except KafkaException as error:
            refused: KafkaError = error.args[0]
            raise failed(refused.name(), self.advice(refused)) from error

    def await_visible(self) -> None:
        """Wait until all that was written can be read."""
        self._offsets.await_visible(self._ends, _VISIBLE_S)

    def advice(self, error: KafkaError) -> str:
        """What to do about the error of a write: which right is missing, else what Kafka says."""
        if not is_denial(error):
            return error.str()
        with contextlib.suppress(KafkaException):
            self._producer.poll(0)
        topic = min(self._denied_writes.topics, default=self._names.audit)
        asked = on_topic("Write", topic), on_transactions(self._id)
        return missing(error, "replay", self._connection, *asked).advice

    def _note(self, error: KafkaError | None, message: Message) -> None:
        # An error here makes the commit fail, which says it.
        if error is None:
            partition = (message.topic() or "", message.partition() or 0)
            self._ends[partition] = max(self._ends.get(partition, 0), (message.offset() or 0) + 1)

    def _produce(self, number: int, record: Outgoing, places: dict[int, tuple[int, int]]) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            self._note(error, message)
            if error is None:
                places[number] = message.partition() or 0, message.offset() or 0

        headers: list[tuple[str, str | bytes | None]] = [*record.headers]
        self._producer.produce(record.topic, record.value, record.key, headers=headers, on_delivery=delivered)

    def _call(self, call: Callable[[float], None]) -> None:
        """The same call again as long as Kafka says that it may be."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return call(max(0.1, deadline - time.monotonic()))
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
