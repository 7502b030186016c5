"""What fairlane relies on of Kafka, on the real one and on its twin in memory: one suite that both must pass.

A difference between them that is found anywhere else becomes a test here first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import TopicPartition
from two_kafkas import AnyKafka, Reader, RealKafka, Twin, Writer, poll_for, poll_until, raised

from fairlane.topics.partitioner import partition_of

pytestmark = pytest.mark.kafka


@pytest.fixture(params=["twin", "kafka"])
def either(request: pytest.FixtureRequest) -> Iterator[AnyKafka]:
    """One of the two."""
    kafka = Twin() if request.param == "twin" else RealKafka(request.getfixturevalue("kafka"))
    yield kafka
    kafka.close()


# Offsets and transactions.


def test_the_end_of_a_transaction_takes_an_offset_and_what_was_aborted_is_not_read(either: AnyKafka) -> None:
    topic = either.topic()
    writer = Writer(either)
    for number in range(4):
        writer.transact(topic, b"%d" % number, commit=number != 1)
    reader = Reader(either)
    reader.assign(topic)
    assert reader.read_to_end() == 8
    assert reader.offsets == [0, 4, 6]


def test_who_reads_the_uncommitted_reads_what_was_aborted(either: AnyKafka) -> None:
    topic = either.topic()
    Writer(either).transact(topic, b"a", b"b", commit=False)
    reader = Reader(either, isolation_level="read_uncommitted")
    reader.assign(topic)
    assert reader.read_to_end() == 3
    assert reader.offsets == [0, 1]


def test_nothing_behind_an_open_transaction_is_read_and_the_end_is_where_it_begins(either: AnyKafka) -> None:
    topic = either.topic()
    open_one, other = Writer(either), Writer(either)
    other.transact(topic, b"before")
    open_one.producer.begin_transaction()
    open_one.write(topic, b"open")
    open_one.producer.flush(10)
    other.transact(topic, b"behind")
    reader = Reader(either)
    reader.assign(topic)
    assert reader.read_to_end() == 2
    assert reader.offsets == [0]
    assert reader.consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=60) == (0, 2)
    (latest,) = reader.consumer.offsets_for_times([TopicPartition(topic, 0, -1)], timeout=60)
    (earliest,) = reader.consumer.offsets_for_times([TopicPartition(topic, 0, -2)], timeout=60)
    assert (earliest.offset, latest.offset) == (0, 2)
    open_one.producer.commit_transaction(10)
    assert reader.read_to_end() == 6
    assert reader.offsets == [2, 3]


def test_a_transaction_without_anything_leaves_nothing(either: AnyKafka) -> None:
    topic = either.topic()
    writer = Writer(either)
    writer.producer.begin_transaction()
    writer.producer.commit_transaction(10)
    reader = Reader(either)
    reader.assign(topic)
    assert reader.read_to_end() == 0


def test_calls_out_of_order_are_refused_without_a_flag(either: AnyKafka) -> None:
    producer = Writer(either).producer
    assert raised(producer.commit_transaction, 5) == ("_STATE", set())
    assert raised(producer.abort_transaction, 5) == ("_STATE", set())
    offsets = [TopicPartition("conform", 0, 1)]
    metadata = Reader(either).consumer.consumer_group_metadata()
    assert raised(producer.send_offsets_to_transaction, offsets, metadata, 5) == ("_STATE", set())
    producer.begin_transaction()
    assert raised(producer.begin_transaction) == ("_STATE", set())
    producer.abort_transaction(5)


def test_whoever_initialises_an_id_again_aborts_what_it_left_open_and_fences_it(either: AnyKafka) -> None:
    topic = either.topic()
    old = Writer(either)
    old.producer.begin_transaction()
    old.write(topic, b"open")
    old.producer.flush(10)
    Writer(either, old.id)
    reader = Reader(either)
    reader.assign(topic)
    assert reader.read_to_end() == 2
    assert reader.offsets == []
    assert raised(old.producer.commit_transaction, 10) == ("_FENCED", {"fatal"})
    assert raised(old.producer.abort_transaction, 10) == ("_FENCED", {"fatal"})
    assert raised(old.producer.begin_transaction) == ("_FENCED", {"fatal"})
    assert raised(old.producer.flush, 1) == ("_FENCED", {"fatal"})
    assert raised(old.producer.produce, topic, b"late")[0] == "_FATAL"


def test_a_transaction_that_is_open_for_too_long_is_aborted_and_its_producer_fenced(either: AnyKafka) -> None:
    topic = either.topic()
    late = Writer(either, transaction_timeout_ms=1_000, message_timeout_ms=900)
    late.producer.begin_transaction()
    late.write(topic)
    late.producer.flush(10)
    reader = Reader(either)
    reader.assign(topic)
    poll_until([reader], lambda: ("_PARTITION_EOF", 2, None) in reader.found)
    assert reader.offsets == []
    assert raised(late.producer.commit_transaction, 10) == ("_FENCED", {"fatal"})


# What a broker refuses of a record.


def test_a_record_that_is_too_large_costs_the_transaction(either: AnyKafka) -> None:
    topic = either.topic(config={"max.message.bytes": "2000"})
    writer = Writer(either)
    writer.producer.begin_transaction()
    writer.write(topic, b"x" * 3_000)
    assert raised(writer.producer.commit_transaction, 10) == ("MSG_SIZE_TOO_LARGE", {"abort"})
    writer.producer.abort_transaction(10)
    assert writer.reports == ["MSG_SIZE_TOO_LARGE"]


def test_the_transaction_after_one_with_a_refused_record_is_aborted_once_and_then_all_is_well(either: AnyKafka) -> None:
    """The refused record had taken a sequence number, which the broker misses."""
    topic = either.topic(config={"max.message.bytes": "2000"})
    writer = Writer(either)
    writer.producer.begin_transaction()
    writer.write(topic, b"x" * 3_000)
    assert raised(writer.producer.commit_transaction, 10)[0] == "MSG_SIZE_TOO_LARGE"
    writer.producer.abort_transaction(10)
    writer.producer.begin_transaction()
    writer.write(topic, b"small")
    assert raised(writer.producer.commit_transaction, 10) == ("OUT_OF_ORDER_SEQUENCE_NUMBER", {"abort"})
    writer.producer.abort_transaction(10)
    writer.transact(topic, b"small")


def test_a_compacted_topic_takes_no_record_without_a_key(either: AnyKafka) -> None:
    topic = either.topic(config={"cleanup.policy": "compact"})
    writer = Writer(either)
    writer.producer.begin_transaction()
    writer.write(topic)
    assert raised(writer.producer.commit_transaction, 10) == ("INVALID_RECORD", {"abort"})
    writer.producer.abort_transaction(10)
    assert writer.reports == ["INVALID_RECORD"]


def test_a_record_for_a_topic_that_is_not_there_costs_the_transaction(either: AnyKafka) -> None:
    writer = Writer(either)
    writer.producer.begin_transaction()
    writer.write("conform-nowhere", partition=-1)
    writer.producer.flush(10)
    assert writer.reports == ["UNKNOWN_TOPIC_OR_PART"]
    assert raised(writer.producer.commit_transaction, 10)[1] == {"abort"}
    writer.producer.abort_transaction(10)


def test_a_partition_that_is_not_there_is_refused_at_once(either: AnyKafka) -> None:
    topic = either.topic()
    writer = Writer(either)
    writer.transact(topic, b"known")
    writer.producer.begin_transaction()
    assert raised(writer.producer.produce, topic, b"x", None, 7)[0] == "_UNKNOWN_PARTITION"
    writer.producer.abort_transaction(10)


def test_a_record_keeps_its_key_headers_and_the_time_of_its_append(either: AnyKafka) -> None:
    topic = either.topic(config={"message.timestamp.type": "LogAppendTime"})
    producer = either.producer({"partitioner": "murmur2_random"})
    producer.produce(topic, b"v", "k", headers=[("a", b"1"), ("b", None)], timestamp=5)
    assert producer.flush(10) == 0
    reader = Reader(either)
    reader.assign(topic)
    message = None
    while message is None or message.error() is not None:
        message = reader.consumer.poll(5)
    assert (message.key(), message.value(), message.headers()) == (b"k", b"v", [("a", b"1"), ("b", None)])
    kind, at_ms = message.timestamp()
    assert kind == 2
    assert abs(at_ms - time.time() * 1000) < 60_000


def test_keys_go_to_the_same_partition_on_both(either: AnyKafka) -> None:
    topic = either.topic(7)
    producer = either.producer({"partitioner": "murmur2_random"})
    keys = [b"key-%d" % number for number in range(20)]
    for key in keys:
        producer.produce(topic, b"x", key)
    producer.flush(10)
    reader = Reader(either)
    reader.consumer.assign([TopicPartition(topic, number, 0) for number in range(7)])
    found: dict[bytes | None, int | None] = {}
    while len(found) < len(keys):
        message = reader.consumer.poll(5)
        assert message is not None
        if message.error() is None:
            found[message.key()] = message.partition()
    assert found == {key: partition_of(key, 7) for key in keys}


# Reading.


def test_a_reader_goes_on_from_where_it_seeks_and_hears_of_the_end_again(either: AnyKafka) -> None:
    topic = either.topic()
    Writer(either).transact(topic, b"a", b"b", b"c")
    reader = Reader(either)
    reader.assign(topic)
    assert reader.read_to_end() == 4
    reader.consumer.seek(TopicPartition(topic, 0, 1))
    assert reader.read_to_end() == 4
    assert reader.offsets == [1, 2]
    assert raised(reader.consumer.seek, TopicPartition(topic, 5, 1))[0] == "_STATE"


def test_a_paused_partition_gives_nothing_until_it_is_resumed(either: AnyKafka) -> None:
    topic = either.topic()
    Writer(either).transact(topic, b"a")
    reader = Reader(either)
    reader.assign(topic)
    reader.consumer.pause([TopicPartition(topic, 0)])
    poll_for(reader, 0.3)
    assert reader.found == []
    reader.consumer.resume([TopicPartition(topic, 0)])
    assert reader.read_to_end() == 2
    assert reader.offsets == [0]


def test_where_records_were_deleted_the_reader_is_told_and_its_reading_has_failed(either: AnyKafka) -> None:
    topic = either.topic()
    Writer(either).transact(topic, b"a", b"b", b"c")
    either.delete_records(topic, 0, 2)
    reader = Reader(either)
    reader.assign(topic, 0, 0)
    poll_until([reader], lambda: reader.found)
    assert reader.found == [("_AUTO_OFFSET_RESET", 0, None)]
    assert raised(reader.consumer.seek, TopicPartition(topic, 0, 2))[0] == "_STATE"
    assert reader.consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=60) == (2, 4)
    again = Reader(either)
    again.assign(topic, 0, 2)
    assert again.read_to_end() == 4
    assert again.offsets == [2]


# Offsets of a group.


def test_offsets_of_a_transaction_are_committed_with_it_and_waited_for_while_it_is_open(either: AnyKafka) -> None:
    topic = either.topic()
    reader, writer = Reader(either), Writer(either)
    metadata = reader.consumer.consumer_group_metadata()
    place = TopicPartition(topic, 0)
    assert reader.consumer.committed([place], timeout=60)[0].offset == -1001
    writer.producer.begin_transaction()
    writer.producer.send_offsets_to_transaction([TopicPartition(topic, 0, 5, "map")], metadata, 10)
    assert raised(lambda: reader.consumer.committed([place], timeout=0.3))[0] == "_TIMED_OUT"
    writer.producer.commit_transaction(10)
    (found,) = reader.consumer.committed([place], timeout=60)
    assert (found.offset, found.metadata) == (5, "map")
    writer.producer.begin_transaction()
    writer.producer.send_offsets_to_transaction([TopicPartition(topic, 0, 9, "")], metadata, 10)
    writer.producer.abort_transaction(10)
    assert reader.consumer.committed([place], timeout=60)[0].offset == 5


def test_metadata_of_4095_bytes_is_committed_and_more_is_refused(either: AnyKafka) -> None:
    topic = either.topic()
    reader, writer = Reader(either), Writer(either)
    metadata = reader.consumer.consumer_group_metadata()
    assert writer.settle(metadata, (topic, 0, 1, "m" * 4_095)) == ""
    assert writer.settle(metadata, (topic, 0, 2, "m" * 4_096)) == "OFFSET_METADATA_TOO_LARGE"
    assert reader.consumer.committed([TopicPartition(topic, 0)], timeout=60)[0].offset == 1


def test_offsets_are_taken_for_a_partition_of_somebody_else_under_the_newest_epoch_and_refused_under_an_older_one(
    either: AnyKafka,
) -> None:
    """What the lease and the barrier at a revocation are for."""
    topic = either.topic(2)
    group = f"{topic}-group"
    first, second, writer = Reader(either, group), Reader(either, group), Writer(either)
    first.subscribe(topic)
    poll_until([first], lambda: len(first.held) == 2)
    old = first.consumer.consumer_group_metadata()
    assert writer.settle(old, (topic, 0, 1, ""), (topic, 1, 1, "")) == ""
    second.subscribe(topic)
    poll_until([first, second], lambda: second.held)
    ((_, kept),), ((_, gone),) = first.held, second.held
    new = first.consumer.consumer_group_metadata()
    assert writer.settle(new, (topic, gone, 2, "")) == "", "a partition that another member owns"
    assert writer.settle(old, (topic, kept, 2, "")) == "", "one that stayed, under the epoch in which it was given"
    assert writer.settle(old, (topic, gone, 3, "")) == "ILLEGAL_GENERATION"
    assert writer.settle(old, (topic, kept, 3, ""), (topic, gone, 3, "")) == "ILLEGAL_GENERATION"
    offsets = second.consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=60)
    assert [each.offset for each in offsets] == [2, 2]


def test_one_that_is_no_member_commits_only_while_there_is_none(either: AnyKafka) -> None:
    topic = either.topic()
    group = f"{topic}-group"
    member, other, writer = Reader(either, group), Reader(either, group), Writer(either)
    metadata = other.consumer.consumer_group_metadata()
    assert writer.settle(metadata, (topic, 0, 1, "")) == ""
    member.subscribe(topic)
    poll_until([member], lambda: member.held)
    assert writer.settle(metadata, (topic, 0, 2, "")) == "UNKNOWN_MEMBER_ID"


# Assignments.


def test_all_members_get_the_same_partitions_of_every_topic(either: AnyKafka) -> None:
    topics = [either.topic(4), either.topic(4)]
    first, second = Reader(either, f"{topics[0]}-group"), Reader(either, f"{topics[0]}-group")
    first.subscribe(*topics)
    poll_until([first], lambda: len(first.held) == 8)
    second.subscribe(*topics)
    poll_until([first, second], lambda: len(second.held) == 4)
    for reader in (first, second):
        numbers = [{number for topic, number in reader.held if topic == each} for each in topics]
        assert numbers[0] == numbers[1]
        assert len(numbers[0]) == 2


def test_what_moves_is_taken_from_one_before_the_other_gets_it_and_the_rest_stays(either: AnyKafka) -> None:
    topic = either.topic(2)
    first, second = Reader(either, f"{topic}-group"), Reader(either, f"{topic}-group")
    first.subscribe(topic)
    poll_until([first], lambda: len(first.held) == 2)
    at_revocation: list[list[tuple[str, int]]] = []
    first.on_revoke = lambda: at_revocation.append(second.held)
    second.subscribe(topic)
    poll_until([first, second], lambda: second.held)
    (gone,) = second.held
    assert first.told[1:] == [("revoke", [gone]), ("assign", [])], "and an assignment of nothing follows"
    assert at_revocation == [[]]
    first.on_revoke = lambda: None
    assert len(first.held) == 1
    second.consumer.close()
    assert second.told[-1] == ("revoke", [gone])
    poll_until([first], lambda: len(first.held) == 2)
    assert first.told[-1] == ("assign", [gone])


def test_while_a_member_is_in_its_revocation_nobody_else_gets_what_goes(either: AnyKafka) -> None:
    topic = either.topic(2)
    first, second = Reader(either, f"{topic}-group"), Reader(either, f"{topic}-group")
    first.subscribe(topic)
    poll_until([first], lambda: len(first.held) == 2)
    meanwhile: list[list[tuple[str, int]]] = []

    def wait() -> None:
        poll_for(second, 1.2)
        meanwhile.append(second.held)

    first.on_revoke = wait
    second.subscribe(topic)
    poll_until([first, second], lambda: second.held)
    assert meanwhile == [[]]
    first.on_revoke = lambda: None


def test_partitions_that_are_added_are_given(either: AnyKafka) -> None:
    topic = either.topic(1)
    reader = Reader(either, topic_metadata_refresh_interval_ms=200)
    reader.subscribe(topic)
    poll_until([reader], lambda: reader.held)
    either.add_partitions(topic, 3)
    poll_until([reader], lambda: len(reader.held) == 3)


def test_a_static_member_that_is_back_has_its_partitions_again_and_nothing_moves_meanwhile(either: AnyKafka) -> None:
    topic = either.topic(2)
    group = f"{topic}-group"
    first, other = Reader(either, group, group_instance_id="a"), Reader(either, group, group_instance_id="b")
    first.subscribe(topic)
    other.subscribe(topic)
    poll_until([first, other], lambda: len(first.held) == len(other.held) == 1)
    held = first.held
    first.consumer.close()
    back = Reader(either, group, group_instance_id="a")
    back.subscribe(topic)
    poll_until([other, back], lambda: back.held)
    assert back.held == held
    assert len(other.held) == 1


def test_a_second_member_of_one_instance_id_is_refused_for_good_and_the_first_goes_on(either: AnyKafka) -> None:
    topic = either.topic(1)
    first = Reader(either, f"{topic}-group", group_instance_id="a")
    second = Reader(either, f"{topic}-group", group_instance_id="a")
    first.subscribe(topic)
    poll_until([first], lambda: first.held)
    second.subscribe(topic)
    poll_until([first, second], lambda: [name for name, *_ in second.found] == ["_FATAL"])
    poll_for(first, 0.3)
    assert first.held == [(topic, 0)]


def test_a_member_that_does_not_poll_loses_what_it_has_and_its_offsets_are_refused(either: AnyKafka) -> None:
    """As one does that was stopped for longer than its session."""
    topic = either.topic(2)
    group = f"{topic}-group"
    silent, other, writer = Reader(either, group, max_poll_interval_ms=1_000), Reader(either, group), Writer(either)
    silent.subscribe(topic)
    poll_until([silent], lambda: len(silent.held) == 2)
    old = silent.consumer.consumer_group_metadata()
    other.subscribe(topic)
    poll_until([other], lambda: len(other.held) == 2)
    assert writer.settle(old, (topic, 0, 1, "")) == "UNKNOWN_MEMBER_ID"
    silent.found.clear()
    silent.told.clear()
    poll_until([silent, other], lambda: silent.told and silent.told[-1] == ("assign", silent.held) and silent.held)
    assert silent.found[0][0] == "_MAX_POLL_EXCEEDED"
    # A revocation may have been on its way to it before.
    taken = [(what, place) for what, places in silent.told[:-1] for place in places if what != "assign"]
    assert sorted(place for _, place in taken) == [(topic, 0), (topic, 1)]
    assert taken[-1][0] == "lost"
