"""The twin in memory where no real broker can be asked in seconds: the log cleaner, retention, and what goes wrong."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from fairlane.testing import Faults, MemoryBroker
from fairlane.testing.memory.failures import retriable
from fairlane.testing.memory.group import GroupMetadata


def test_compaction_keeps_the_newest_record_of_each_key_at_its_offset_and_nothing_of_what_is_open() -> None:
    broker = MemoryBroker()
    broker.create_topic("t", 1, {"cleanup.policy": "compact"})
    producer = broker.producer({"transactional.id": "a"})
    producer.init_transactions()
    for key, value, commit in ((b"a", b"1", True), (b"b", b"1", True), (b"a", b"2", True), (b"b", b"2", False)):
        producer.begin_transaction()
        producer.produce("t", value, key)
        (producer.commit_transaction if commit else producer.abort_transaction)()
    producer.begin_transaction()
    producer.produce("t", b"3", b"a")
    broker.compact("t")
    assert [(each.offset, each.key, each.value) for each in broker.records("t")] == [(2, b"b", b"1"), (4, b"a", b"2")]
    producer.commit_transaction()
    assert broker.records("t")[-1][:3] == (8, b"a", b"3")


def test_retention_deletes_from_the_beginning_what_is_too_old() -> None:
    broker = MemoryBroker()
    broker.create_topic("t", 1, {"retention.ms": "1000"})
    producer = broker.producer({})
    now_ms = broker.clock.now_ms()
    for age_ms in (5_000, 2_000, 0):
        producer.produce("t", b"x", timestamp=now_ms - age_ms)
    broker.expire("t")
    assert [each.offset for each in broker.records("t")] == [2]
    consumer = broker.consumer({"group.id": "g"})
    assert consumer.get_watermark_offsets(TopicPartition("t", 0)) == (2, 3)


class Closed(Faults):
    """A topic that takes no record."""

    def refuses(self, topic: str, client: object) -> KafkaError | None:
        return KafkaError(KafkaError._MSG_TIMED_OUT) if topic == "closed" else None


def test_a_record_that_is_refused_is_told_and_takes_its_transaction_with_it() -> None:
    broker = MemoryBroker(faults=Closed())
    broker.create_topic("t")
    broker.create_topic("closed")
    told: list[KafkaError | None] = []
    producer = broker.producer({"transactional.id": "a"})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce("t", b"x")
    producer.produce("closed", b"y", on_delivery=lambda error, _: told.append(error))
    with pytest.raises(KafkaException) as caught:
        producer.commit_transaction()
    assert caught.value.args[0].txn_requires_abort()
    producer.abort_transaction()
    assert [error.code() for error in told if error is not None] == [KafkaError._MSG_TIMED_OUT]
    assert not [*broker.records("t"), *broker.records("closed")]


class LostAnswers(Faults):
    """The first commit has its effect, and its answer is lost."""

    def __init__(self) -> None:
        self.lost = 0

    def after(self, call: str, client: object) -> None:
        if call == "commit_transaction" and not self.lost:
            self.lost += 1
            raise retriable(-185)


def test_a_commit_whose_answer_was_lost_is_made_again_without_harm() -> None:
    broker = MemoryBroker(faults=LostAnswers())
    broker.create_topic("t")
    commits: list[Any] = []
    broker.on_commit = commits.append
    producer = broker.producer({"transactional.id": "a"})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce("t", b"x", b"k")
    producer.send_offsets_to_transaction([TopicPartition("t", 0, 7, "map")], GroupMetadata("g", "", -1))
    with pytest.raises(KafkaException):
        producer.commit_transaction()
    producer.commit_transaction()
    (commit,) = commits
    assert [record.value for record in commit.records[("t", 0)]] == [b"x"]
    assert commit.offsets["g"][("t", 0)].offset == 7
    producer.begin_transaction()
    producer.produce("t", b"y", b"k")
    producer.commit_transaction()
    assert [each.offset for each in broker.records("t")] == [0, 2]
