"""One transaction: the order of its calls, what follows their errors, and whom a refusal names; on a fake producer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from kafka_client_fakes import FakeMessage
from worker_parts import P5, lease_of

from fairlane.consumer import transaction
from fairlane.consumer.assignment import Lease
from fairlane.consumer.delivery import Assigned
from fairlane.consumer.ledger import OffsetToCommit
from fairlane.consumer.settle_records import Record
from fairlane.consumer.transaction import Aborted, ProducerGivenUp, TransactionalProducer, transactional_properties
from fairlane.topics.connection import Connection

OFFSETS = [OffsetToCommit(P5, 8, "map")]
RECORDS = [(0, Record("shop.status", b"a", b"1", ())), (1, Record("shop.replies", b"b", b"2", (("h", b"v"),), 3))]
LEASE = lease_of(P5)


def raised(code: int = KafkaError._TIMED_OUT, **flags: bool) -> KafkaException:
    return KafkaException(KafkaError(code, "words", **flags))


class FakeProducer:
    """A transactional producer of confluent-kafka: `fails` are raised by its calls in turn, by name."""

    def __init__(self, properties: dict[str, Any], logger: Any = None) -> None:
        self.properties = properties
        self.calls: list[str] = []
        self.fails: dict[str, list[BaseException]] = {}
        self.refuses: dict[str, int] = {}
        self.produced: list[tuple[Any, ...]] = []
        self.offsets: list[Any] = []
        self.waits_behind = False
        self._reports: list[Callable[[], None]] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self._fail(name)

    def _fail(self, name: str) -> None:
        if self.fails.get(name):
            raise self.fails[name].pop(0)

    def purge(self) -> None:
        self._fail("purge")

    def init_transactions(self, _timeout: float) -> None:
        self._call("init")

    def begin_transaction(self) -> None:
        self._call("begin")

    def produce(
        self, topic: str, value: Any, key: Any, partition: int, callback: Any, _: None, timestamp: int, headers: Any
    ) -> None:
        self._call("produce")
        self.produced.append((topic, value, key, partition, headers))
        if topic in self.refuses:
            told = FakeMessage(0, value, topic=topic, key=key)
            self._reports.append(lambda: callback(KafkaError(self.refuses[topic]), told))

    def poll(self, _timeout: float) -> None:
        self._call("poll")

    def flush(self, _timeout: float) -> int:
        """What is left; behind a refused record, and only there, something is."""
        self._fail("flush")
        if not self.waits_behind:
            return 0
        reports, self._reports = self._reports, []
        for report in reports:
            report()
        return 1

    def send_offsets_to_transaction(self, offsets: list[Any], metadata: object, _timeout: float) -> None:
        self._call("offsets")
        self.offsets.append(([(each.topic, each.partition, each.offset, each.metadata) for each in offsets], metadata))

    def commit_transaction(self, _timeout: float) -> None:
        reports, self._reports = self._reports, []
        for report in reports:
            report()
        if reports:
            self.calls.append("commit")
            raise raised(KafkaError._INCONSISTENT, txn_requires_abort=True)
        self._call("commit")

    def abort_transaction(self, _timeout: float) -> None:
        self._call("abort")


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "Producer", FakeProducer)
    monkeypatch.setattr(transaction, "BACKOFF_S", 0)
    monkeypatch.setattr(transaction, "missing_topics", lambda _connection, _topics: frozenset())


def make(*, ending: bool = False) -> tuple[TransactionalProducer, FakeProducer]:
    producer = TransactionalProducer(Connection("b:1"), "tx-1", lambda: ending, lambda: LEASE)
    inner: Any = producer._producer
    return producer, inner


def test_records_and_offsets_are_written_together() -> None:
    producer, inner = make()
    producer.run(RECORDS, OFFSETS, LEASE)
    assert inner.calls == ["begin", "produce", "produce", "offsets", "commit"]
    assert inner.offsets == [([("shop.p5", 0, 8, "map")], "metadata")]
    assert inner.produced == [
        ("shop.status", b"1", b"a", -1, []),
        ("shop.replies", b"2", b"b", 3, [("h", b"v")]),
    ]


@pytest.mark.parametrize("now", [lease_of(number=2), lease_of(Assigned(P5.topic, P5.partition, P5.epoch + 1))])
def test_offsets_of_a_partition_that_left_while_they_were_sent_are_not_committed(now: Lease) -> None:
    """Kafka takes them from a member that keeps its epoch until it has given back more: somebody has it already."""
    leases = [LEASE]
    producer = TransactionalProducer(Connection("b:1"), "tx-1", lambda: False, lambda: leases[-1])
    inner: Any = producer._producer
    producer.run(RECORDS, OFFSETS, LEASE)
    send = inner.send_offsets_to_transaction

    def sent_too_late(*arguments: Any) -> None:
        leases.append(now)
        send(*arguments)

    inner.send_offsets_to_transaction = sent_too_late
    inner.calls.clear()
    with pytest.raises(Aborted, match="partitions left"):
        producer.run(RECORDS, OFFSETS, LEASE)
    assert inner.calls == ["begin", "produce", "produce", "offsets", "poll", "abort"]


def test_without_offsets_none_are_sent() -> None:
    producer, inner = make()
    producer.run(RECORDS, [], LEASE)
    assert "offsets" not in inner.calls


@pytest.mark.parametrize("name", ["begin", "offsets", "commit"])
def test_a_retriable_call_is_made_again(name: str) -> None:
    producer, inner = make()
    inner.fails[name] = [raised(retriable=True), raised(retriable=True)]
    producer.run(RECORDS, OFFSETS, LEASE)
    assert inner.calls.count(name) == 3
    assert "abort" not in inner.calls


@pytest.mark.parametrize("name", ["begin", "offsets", "commit"])
def test_an_error_that_requires_an_abort_gets_one(name: str) -> None:
    producer, inner = make()
    inner.fails[name] = [raised(txn_requires_abort=True)]
    inner.fails["abort"] = [raised(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, retriable=True)]
    with pytest.raises(Aborted) as aborted:
        producer.run(RECORDS, OFFSETS, LEASE)
    assert inner.calls[-2:] == ["abort", "abort"], "an abort is itself made again"
    assert aborted.value.refusals == ()


@pytest.mark.parametrize("name", ["begin", "offsets", "commit"])
def test_a_fatal_error_gives_the_producer_up(name: str) -> None:
    producer, inner = make()
    inner.fails[name] = [raised(KafkaError._FENCED, fatal=True)]
    with pytest.raises(ProducerGivenUp):
        producer.run(RECORDS, OFFSETS, LEASE)
    assert "abort" not in inner.calls


@pytest.mark.parametrize("name", ["flush", "poll"])
@pytest.mark.parametrize(
    "error", [raised(KafkaError._FENCED, fatal=True), SystemError("a result with an exception set")]
)
def test_a_fatal_error_that_a_flush_or_a_poll_hears_of_first_gives_the_producer_up(
    name: str, error: BaseException
) -> None:
    producer, inner = make()
    inner.fails[name] = [error]
    if name == "poll":
        inner.fails["produce"] = [BufferError()]
    with pytest.raises(ProducerGivenUp):
        producer.run(RECORDS, OFFSETS, LEASE)


@pytest.mark.parametrize("name", ["begin", "offsets", "commit"])
def test_a_call_that_the_client_stumbles_over_gives_the_producer_up(name: str) -> None:
    """confluent-kafka raises what a fatal error left behind as a SystemError."""
    producer, inner = make()
    inner.fails[name] = [SystemError("returned a result with an exception set")]
    with pytest.raises(ProducerGivenUp):
        producer.run(RECORDS, OFFSETS, LEASE)


@pytest.mark.parametrize("name", ["purge", "flush"])
def test_a_producer_that_failed_for_good_can_be_closed(name: str) -> None:
    producer, inner = make()
    inner.fails[name] = [SystemError("returned NULL without setting an exception")]
    producer.close()


def test_an_abort_that_fails_gives_the_producer_up() -> None:
    producer, inner = make()
    inner.fails = {"commit": [raised(txn_requires_abort=True)], "abort": [raised(KafkaError._STATE)]}
    with pytest.raises(ProducerGivenUp):
        producer.run(RECORDS, OFFSETS, LEASE)


def test_a_worker_that_ends_does_not_wait_for_a_cluster_that_stays_away() -> None:
    producer, inner = make(ending=True)
    inner.fails["commit"] = [raised(retriable=True)] * 20
    with pytest.raises(ProducerGivenUp):
        producer.run(RECORDS, OFFSETS, LEASE)
    assert inner.calls.count("commit") == 4


def test_a_full_queue_is_waited_for() -> None:
    producer, inner = make()
    inner.fails["produce"] = [BufferError(), BufferError()]
    producer.run(RECORDS, OFFSETS, LEASE)
    assert [name for name in inner.calls if name in ("produce", "poll")] == [
        *["produce", "poll"] * 2,
        "produce",
        "produce",
    ]


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,  # a name that no topic can have
        KafkaError.INVALID_RECORD,  # no key for a compacted topic
        KafkaError._UNKNOWN_PARTITION,  # a reply to a partition that is not there
    ],
)
def test_a_record_that_is_refused_for_good_names_its_outcome(code: int) -> None:
    producer, inner = make()
    inner.refuses["shop.replies"] = code
    with pytest.raises(Aborted) as aborted:
        producer.run(RECORDS, OFFSETS, LEASE)
    (refusal,) = aborted.value.refusals
    assert (refusal.outcome, refusal.topic, refusal.code) == (1, "shop.replies", KafkaError(code).name())
    assert inner.calls[-1] == "abort"


def test_a_call_that_never_returns_gives_the_producer_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Librdkafka may ignore the timeout of a call after a broker was restarted."""
    producer, inner = make()
    forever = threading.Event()
    monkeypatch.setattr(transaction, "CALL_TIMEOUT_S", 0.02)
    monkeypatch.setattr(transaction, "GRACE_S", 0.02)
    monkeypatch.setattr(inner, "commit_transaction", lambda _timeout: forever.wait())
    with pytest.raises(ProducerGivenUp, match="does not return"):
        producer.run(RECORDS, OFFSETS, LEASE)
    producer.close()
    forever.set()


def test_what_waits_behind_a_refused_record_is_not_waited_for() -> None:
    """It would wait until it times out: the records of a partition go one after the other."""
    producer, inner = make()
    inner.refuses["shop.replies"] = KafkaError.MSG_SIZE_TOO_LARGE
    inner.waits_behind = True
    with pytest.raises(Aborted) as aborted:
        producer.run(RECORDS, OFFSETS, LEASE)
    assert [refusal.topic for refusal in aborted.value.refusals] == ["shop.replies"]
    assert "commit" not in inner.calls
    assert inner.calls[-1] == "abort"


def test_of_records_with_the_same_content_each_names_its_own_outcome_once() -> None:
    """Two dead letters without a key, of tasks with the same payload."""
    producer, inner = make()
    inner.refuses["shop.dlq"] = KafkaError.MSG_SIZE_TOO_LARGE
    same = [(index, Record("shop.dlq", None, b"{}", (("reason", b"%d" % index),))) for index in range(3)]
    with pytest.raises(Aborted) as aborted:
        producer.run(same, (), LEASE)
    assert [each.outcome for each in aborted.value.refusals] == [0, 1, 2]


@pytest.mark.parametrize("code", [KafkaError._UNKNOWN_TOPIC, KafkaError.MSG_SIZE_TOO_LARGE, KafkaError._INVALID_ARG])
def test_a_refusal_before_the_record_is_queued_names_its_outcome_too(code: int) -> None:
    producer, inner = make()
    inner.fails["produce"] = [raised(code)]
    with pytest.raises(Aborted) as aborted:
        producer.run(RECORDS, OFFSETS, LEASE)
    assert [(each.outcome, each.code) for each in aborted.value.refusals] == [(0, KafkaError(code).name())]


def test_a_record_that_is_none_costs_its_own_outcome_and_not_the_worker() -> None:
    producer, inner = make()
    inner.fails["produce"] = [TypeError("expected header value to be None, binary, or unicode string, not int")]
    with pytest.raises(Aborted) as aborted:
        producer.run(RECORDS, OFFSETS, LEASE)
    (refusal,) = aborted.value.refusals
    assert (refusal.outcome, refusal.code) == (0, "INVALID_RECORD")
    assert "header value" in refusal.detail


def test_what_a_purge_or_an_abort_took_along_is_no_refusal() -> None:
    producer, inner = make()
    inner.refuses["shop.status"] = KafkaError._PURGE_QUEUE
    with pytest.raises(Aborted) as aborted:
        producer.run(RECORDS, OFFSETS, LEASE)
    assert (aborted.value.refusals, aborted.value.late) == ((), ())


def test_a_record_that_was_not_taken_in_time_is_late_and_not_refused() -> None:
    producer, inner = make()
    inner.refuses["shop.replies"] = KafkaError._MSG_TIMED_OUT
    with pytest.raises(Aborted) as aborted:
        producer.run(RECORDS, OFFSETS, LEASE)
    assert aborted.value.refusals == ()
    assert [(each.outcome, each.topic) for each in aborted.value.late] == [(1, "shop.replies")]


def test_a_record_that_is_late_for_want_of_its_topic_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Librdkafka lets a record for a topic that was deleted time out."""
    monkeypatch.setattr(transaction, "missing_topics", lambda _connection, topics: frozenset(topics))
    producer, inner = make()
    inner.refuses["shop.replies"] = KafkaError._MSG_TIMED_OUT
    with pytest.raises(Aborted) as aborted:
        producer.run(RECORDS, OFFSETS, LEASE)
    assert [(each.outcome, each.code) for each in aborted.value.refusals] == [(1, "UNKNOWN_TOPIC_OR_PART")]


@pytest.mark.parametrize("name", ["init", "begin", "offsets", "commit", "abort"])
def test_a_coordinator_that_is_loading_is_asked_again(name: str) -> None:
    """It says so after its broker started, until it has read its part of the log."""
    producer, inner = make()
    inner.fails[name] = [raised(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, retriable=True) for _ in range(3)]
    producer.init()
    if name == "abort":
        inner.fails["commit"] = [raised(txn_requires_abort=True)]
        with pytest.raises(Aborted):
            producer.run(RECORDS, OFFSETS, LEASE)
    else:
        producer.run(RECORDS, OFFSETS, LEASE)
    assert inner.calls.count(name) == 4


def test_refusals_of_one_transaction_are_not_those_of_the_next() -> None:
    producer, inner = make()
    inner.refuses["shop.replies"] = KafkaError.MSG_SIZE_TOO_LARGE
    with pytest.raises(Aborted):
        producer.run(RECORDS, OFFSETS, LEASE)
    inner.refuses.clear()
    inner.fails["commit"] = [raised(txn_requires_abort=True)]
    with pytest.raises(Aborted) as aborted:
        producer.run(RECORDS, OFFSETS, LEASE)
    assert aborted.value.refusals == ()


def test_the_id_is_registered_as_soon_as_kafka_answers() -> None:
    producer, inner = make()
    inner.fails["init"] = [raised(retriable=True)] * 3
    producer.init()
    assert inner.calls == ["init"] * 4


def test_an_error_that_asking_again_does_not_mend_is_raised() -> None:
    producer, inner = make()
    inner.fails["init"] = [raised(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)]
    with pytest.raises(ProducerGivenUp):
        producer.init()


def test_a_worker_that_ends_asks_no_more() -> None:
    producer, inner = make(ending=True)
    inner.fails["init"] = [raised(retriable=True)]
    with pytest.raises(ProducerGivenUp):
        producer.init()


def test_a_record_times_out_before_its_transaction_does_whatever_the_user_allows_for_an_enqueue() -> None:
    """The broker ends a transaction that is too long and fences its producer, which costs all that is unsettled."""
    for given in ({}, {"message.timeout.ms": 300_000}, {"transaction.timeout.ms": 5_000}):
        properties = transactional_properties(Connection("b:1", given), "tx-1")
        assert properties["message.timeout.ms"] < properties["transaction.timeout.ms"] == 10_000
