"""The producer of an in-memory broker.

Invariant: its methods answer and raise as those of `confluent_kafka.Producer` do: in which state what may be called,
which error asks for an abort, and that one which was fenced is of no further use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from fairlane.testing.memory.failures import failure, fatal, fenced, must_abort
from fairlane.testing.memory.group import Committed, GroupMetadata
from fairlane.testing.memory.log import Headers, Stored
from fairlane.testing.memory.message import MemoryMessage
from fairlane.testing.memory.metadata import ClusterView, cluster_view

if TYPE_CHECKING:
    from fairlane.testing.memory.broker import MemoryBroker
    from fairlane.testing.memory.transactions import Session

METADATA_MAX_BYTES: Final = 4_095
"""One less than Kafka's default of `offset.metadata.max.bytes`: a broker was seen to refuse the very 4,096."""

OnDelivery = Callable[[KafkaError | None, Any], object]


class _Queued(NamedTuple):
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    on_delivery: OnDelivery | None


class MemoryProducer:
    """A producer; `MemoryBroker.producer` makes one."""

    def __init__(self, broker: MemoryBroker, properties: Mapping[str, Any]) -> None:
        self._broker = broker
        self._transactional_id: str | None = properties.get("transactional.id")
        self._timeout_s = float(properties.get("transaction.timeout.ms", 60_000)) / 1000
        self._only_errors = bool(properties.get("delivery.report.only.error", False))
        self._session: Session | None = None
        self._number = 0
        self._state = "Init"
        self._failed: KafkaException | None = None
        """Why the transaction must be aborted."""
        self._fatal: KafkaException | None = None
        self._skipped = False
        """Whether a record was refused that had taken a sequence number: the broker misses it at the next one."""
        self._queue: deque[_Queued] = deque()
        """What waits behind a record that was refused."""
        self._reports: deque[tuple[OnDelivery, KafkaError | None, MemoryMessage]] = deque()

    # Records.

    def produce(
        self,
        topic: str,
        value: bytes | str | None = None,
        key: bytes | str | None = None,
        partition: int = -1,
        callback: OnDelivery | None = None,
        on_delivery: OnDelivery | None = None,
        timestamp: int = 0,
        headers: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None,
    ) -> None:
        """Write a record; its report comes from `poll` or `flush`.

        Raises:
            KafkaException: the partition is unknown, the producer is in no transaction, or of no further use.
        """
        broker = self._broker
        if self._fatal is not None:
            raise fatal(KafkaError._FATAL, "Unable to produce message: Local: Fatal error")
        if self._transactional_id is not None and self._state != "InTransaction":
            raise failure(KafkaError._STATE, "Unable to produce message: Local: Erroneous state")  # noqa: SLF001
        broker.faults.before("produce", self)
        named = list(headers.items()) if isinstance(headers, Mapping) else headers or ()
        packed = tuple((name, _bytes(text)) for name, text in named)
        key_bytes = _bytes(key)
        with broker.clock.held():
            count = broker.partitions(topic)
            if partition >= count > 0:
                raise failure(KafkaError._UNKNOWN_PARTITION, "Unable to produce message: Local: Unknown partition")
            if partition < 0 and count:
                partition = broker.choose(topic, key_bytes)
            record = _Queued(topic, partition, key_bytes, _bytes(value), packed, timestamp, on_delivery or callback)
            if self._failed is not None:
                self._queue.append(record)
            else:
                self._write(record)

    def _write(self, record: _Queued) -> None:
        session, broker = self._session, self._broker
        now = broker.clock.monotonic()

        def writer() -> int:
            if session is None:
                return 0
            return broker.transactions.write(session, (record.topic, record.partition), now)

        error: KafkaError | None = None
        place = (record.topic, max(record.partition, 0))
        stored = Stored(-1001, record.key, record.value, record.headers, record.timestamp_ms, 0)
        try:
            broker.look()
            if self._skipped:
                self._skipped = False
                raise failure(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "skipped sequence numbers")
            refusal = broker.faults.refuses(record.topic, self)
            if refusal is not None:
                raise KafkaException(refusal)
            stored = broker.write(*place, record.key, record.value, record.headers, record.timestamp_ms, writer)
        except KafkaException as refused:
            error = refused.args[0]
            if error.fatal():
                self._fatal = refused
            elif session is not None:
                self._failed = must_abort(error.code(), error.str())
                self._skipped = error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD)
        if record.on_delivery is not None and (error is not None or not self._only_errors):
            self._reports.append((record.on_delivery, error, MemoryMessage(place, stored, error=error)))

    def poll(self, timeout: float = -1) -> int:
        """Serve reports; returns how many."""
        self._broker.faults.before("poll", self)
        served = 0
        while self._reports:
            on_delivery, error, message = self._reports.popleft()
            on_delivery(error, message)
            served += 1
        return served

    def flush(self, timeout: float = -1) -> int:
        """Serve reports; returns how many records are still on their way: those behind one that was refused.

        Raises:
            KafkaException: the producer was fenced.
        """
        self._broker.faults.before("flush", self)
        self.poll(0)
        self._raise_fatal()
        return len(self._queue)

    def purge(self, in_queue: bool = True, in_flight: bool = True, blocking: bool = True) -> None:
        """Give up what is on its way."""
        while self._queue:
            record = self._queue.popleft()
            if record.on_delivery is not None:
                error = KafkaError(KafkaError._PURGE_QUEUE)
                stored = Stored(-1001, record.key, record.value, record.headers, 0, 0)
                message = MemoryMessage((record.topic, record.partition), stored, error=error)
                self._reports.append((record.on_delivery, error, message))

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterView:
        """The topics there are, or what there is to say of one."""
        self._broker.faults.before("list_topics", self)
        return cluster_view(self._broker.topics, topic)

    def __len__(self) -> int:
        return len(self._queue) + len(self._reports)

    # Transactions.

    def init_transactions(self, timeout: float = -1) -> None:
        """Begin a session under the transactional id; what an earlier one left open is aborted."""
        self._raise_fatal()
        if self._transactional_id is None:
            raise failure(KafkaError._NOT_CONFIGURED, "transactional.id is not set")  # noqa: SLF001
        if self._state == "Init":
            self._broker.faults.before("init_transactions", self)
            with self._broker.clock.held():
                self._session = self._broker.transactions.init(self._transactional_id, self._timeout_s)
                self._number = self._broker.transactions.number(self._session)
                self._state = "Ready"
                self._broker.clock.changed()
            self._broker.faults.after("init_transactions", self)

    def begin_transaction(self) -> None:
        """Begin a transaction; the broker hears of it with the first record."""
        self._expect("Ready")
        self._state = "InTransaction"

    def send_offsets_to_transaction(
        self, offsets: Sequence[TopicPartition], group_metadata: GroupMetadata, timeout: float = -1
    ) -> None:
        """Commit offsets with the transaction.

        Accepted for any partition, whoever owns it, as the real broker does it.

        Raises:
            KafkaException: ILLEGAL_GENERATION or UNKNOWN_MEMBER_ID (the metadata is of a membership that is over),
                OFFSET_METADATA_TOO_LARGE, _FENCED.
        """
        self._expect("InTransaction")
        broker = self._broker
        broker.faults.before("send_offsets_to_transaction", self)
        sent = {(each.topic, each.partition): Committed(each.offset, each.metadata or "") for each in offsets}
        with self._broker_call():
            self._raise_failed()
            broker.look()
            session = self._get_session()
            now = broker.clock.monotonic()
            try:
                broker.group(group_metadata.group).check(group_metadata, sent, now)
                if any(len(each.metadata.encode()) > METADATA_MAX_BYTES for each in sent.values()):
                    raise failure(KafkaError.OFFSET_METADATA_TOO_LARGE, "Offset metadata string too large")
            except KafkaException as refused:
                error = refused.args[0]
                self._failed = must_abort(error.code(), f"Failed to commit offsets to transaction: {error.str()}")
                raise self._failed from None
            broker.transactions.send_offsets(session, group_metadata.group, sent, now)
            broker.clock.changed()
        broker.faults.after("send_offsets_to_transaction", self)

    def commit_transaction(self, timeout: float = -1) -> None:
        """Let all that the transaction wrote and sent become visible.

        Raises:
            KafkaException: a record was refused (the transaction must be aborted), or _FENCED.
        """
        self._end("commit_transaction", commit=True)

    def abort_transaction(self, timeout: float = -1) -> None:
        """Let nothing of it ever become visible."""
        self._end("abort_transaction", commit=False)

    def _end(self, call: str, *, commit: bool) -> None:
        self._expect("InTransaction")
        broker = self._broker
        broker.faults.before(call, self)
        self.poll(0)
        if commit:
            self._raise_failed()
        else:
            self.purge()
        with self._broker_call():
            broker.look()
            broker.transactions.end(self._get_session(), self._number, commit=commit)
            broker.clock.changed()
        broker.faults.after(call, self)
        with self._broker_call():
            self._number = broker.transactions.number(self._get_session())
        self._failed = None
        self._state = "Ready"
        self.poll(0)

    def _expect(self, state: str) -> None:
        self._raise_fatal()
        if self._state != state:
            raise failure(KafkaError._STATE, f"Operation not valid in state {self._state}")  # noqa: SLF001

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise self._fatal

    def _raise_failed(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _get_session(self) -> Session:
        if self._session is None:
            raise fenced()
        return self._session

    def _broker_call(self) -> _Call:
        return _Call(self)

    def close(self) -> None:
        """Nothing is left open by it but its transaction."""


class _Call:
    """Under the broker's lock; a fatal error is remembered."""

    def __init__(self, producer: MemoryProducer) -> None:
        self._producer = producer
        self._lock = producer._broker.clock.held()  # noqa: SLF001

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._lock.__exit__(None, None, None)
        if isinstance(error, KafkaException) and error.args[0].fatal():
            self._producer._fatal = error  # noqa: SLF001


def _bytes(text: bytes | str | None) -> bytes | None:
    if text is None or isinstance(text, bytes):
        return text
    if isinstance(text, str):
        return text.encode()
    raise TypeError(f"expected None, bytes or str, not {type(text).__name__}")
