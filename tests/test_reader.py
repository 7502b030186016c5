"""The reader: what it makes of a batch, of an error and of an assignment; without Kafka, on the test's own thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from kafka_client_fakes import FakeConsumer, end_of_partition, failure, message
from worker_parts import NOW_MS, config

from fairlane.consumer import reader as reading
from fairlane.consumer.assignment import Lease
from fairlane.consumer.delivery import Assigned
from fairlane.consumer.feed import Feed
from fairlane.consumer.positions import PositionsUnknown
from fairlane.consumer.reader import ConsumerLost, Reader
from fairlane.consumer.settler import Settler
from fairlane.consumer.to_settler import Closing, Delivered, ReachedEnd
from fairlane.topics.clock import now_ms

LANE = ("shop.p5", 0)
TIER = ("shop.retry-1m", 0)


class Bench:
    """A reader with a settler and a feed that nobody runs."""

    def __init__(self, consumer: FakeConsumer | None = None, **settings: Any) -> None:
        self.consumer = consumer or FakeConsumer()
        self.crashes: list[BaseException] = []
        made = config(**settings)
        self.settler = Settler(
            made,
            lambda: self.reader.lease,
            on_settled=lambda _: None,
            on_given_up=lambda: None,
            on_crash=self.crashes.append,
        )
        self.settler.resolved.set()
        self.feed = Feed(made, {}, self.settler, wake=lambda: None)
        self.reader = Reader(made, self.settler, self.feed, on_crash=self.crashes.append)

    def assign(self, *partitions: tuple[str, int]) -> None:
        self.reader._assigned(self.consumer.as_consumer(), [TopicPartition(*partition) for partition in partitions])

    def revoke(self, *partitions: tuple[str, int]) -> None:
        self.reader._revoked(self.consumer.as_consumer(), [TopicPartition(*partition) for partition in partitions])

    def turn(self) -> None:
        self.reader._turn(self.consumer.as_consumer())

    def turn_at(self, moment_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """A turn at another time."""
        with monkeypatch.context() as patch:
            patch.setattr(reading, "now_ms", lambda: moment_ms)
            self.turn()

    def take(self, *messages: Message) -> None:
        self.reader._take(list(messages), self.consumer.as_consumer())

    @property
    def delivered(self) -> list[int]:
        """The offsets that the settler was told of, in order."""
        return [offset for said in self.settler._inbox if isinstance(said, Delivered) for offset in said.offsets]

    @property
    def ends(self) -> list[int]:
        """The ends of partitions that the settler was told of."""
        return [said.end for said in self.settler._inbox if isinstance(said, ReachedEnd)]


def waiting(offset: int, *, due_ms: int = 0) -> Message:
    """A record of the tier of a minute that was appended just now and is due in an hour, unless it says otherwise."""
    headers = (
        ("fairlane-lane", b"shop.p5"),
        ("fairlane-priority", b"5"),
        ("fairlane-not-before-ms", b"%d" % (due_ms or now_ms() + 3_600_000)),
    )
    return message(offset, topic=TIER[0], headers=headers, timestamp_ms=now_ms())


def test_the_end_of_a_partition_is_told_after_its_records() -> None:
    bench = Bench()
    bench.assign(LANE)
    bench.take(message(0), message(1), end_of_partition(2))
    assert (bench.delivered, bench.ends) == ([0, 1], [2])


def test_the_end_is_not_told_while_a_record_before_it_waits_in_its_tier() -> None:
    """All below the end counts as read: a record that is held would be committed without being run."""
    bench = Bench()
    bench.assign(TIER)
    bench.take(waiting(0), waiting(1), end_of_partition(2, topic=TIER[0]))
    assert (bench.delivered, bench.ends) == ([], [])


def test_what_is_held_is_taken_before_what_is_read_later_and_then_the_end_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    bench.assign(TIER)
    due = now_ms() + 3_600_000
    bench.take(waiting(0, due_ms=due), end_of_partition(1, topic=TIER[0]))
    bench.take(waiting(1, due_ms=due), end_of_partition(2, topic=TIER[0]))
    assert (bench.delivered, bench.ends) == ([], [])
    bench.turn_at(due, monkeypatch)
    assert (bench.delivered, bench.ends) == ([0, 1], [2])


def test_a_batch_goes_on_with_other_partitions_while_one_is_held() -> None:
    bench = Bench()
    bench.assign(TIER, LANE)
    bench.take(waiting(0), message(3), end_of_partition(1, topic=TIER[0]), message(4), end_of_partition(5))
    assert (bench.delivered, bench.ends) == ([3, 4], [5])


def test_records_of_a_partition_that_is_not_held_are_dropped() -> None:
    bench = Bench()
    bench.assign(LANE)
    bench.take(message(0, partition=1), end_of_partition(1, partition=1))
    assert (bench.delivered, bench.ends) == ([], [])


def test_a_lease_holds_a_partition_before_its_first_record_is_handed_on() -> None:
    """The settler drops what the newest lease does not hold: a quick outcome must not be taken for a late one."""
    bench = Bench(FakeConsumer([[message(0)]]))
    heard: list[tuple[Assigned, Lease]] = []
    post = bench.settler.post

    def listen(*said: Any) -> None:
        heard.extend((each.assigned, bench.reader.lease) for each in said if isinstance(each, Delivered))
        post(*said)

    bench.settler.post = listen  # type: ignore[method-assign]
    bench.assign(LANE)
    bench.turn()
    ((assigned, lease),) = heard
    assert lease.holds(assigned)


def test_what_was_polled_before_its_partition_went_and_came_back_is_taken_once() -> None:
    """The drain after a poll serves the group too: then the partition is read again from what is committed."""

    class Rebalancing(FakeConsumer):
        def consume(self, count: int, timeout: float) -> list[Message]:
            bench.revoke(LANE)
            bench.assign(LANE)
            return [message(0), message(1)]

    bench = Bench(Rebalancing([[message(1)]]), revoke_grace_s=0)
    bench.assign(LANE)
    bench.turn()
    assert bench.delivered == [0, 1]


def test_every_turn_publishes_a_lease_with_a_higher_number() -> None:
    bench = Bench()
    bench.assign(LANE)
    bench.turn()
    first = bench.reader.lease
    bench.turn()
    assert bench.reader.lease.number > first.number
    assert bench.reader.lease.epochs == first.epochs


def test_an_epoch_that_began_anew_is_not_held_any_more() -> None:
    bench = Bench()
    bench.assign(LANE)
    first = bench.reader.held
    bench.reader.begin_anew()
    bench.turn()
    (again,) = bench.reader.held
    assert again.epoch > first[0].epoch
    assert not bench.reader.lease.holds(first[0])
    assert bench.reader.lease.holds(again)


def test_a_partition_whose_position_the_log_does_not_have_begins_anew_and_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.assign(LANE)
    first = bench.reader.held
    bench.take(message(0), failure(KafkaError._AUTO_OFFSET_RESET), message(1))
    (again,) = bench.reader.held
    assert again.epoch > first[0].epoch
    assert bench.reader._intake.partitions == [LANE]
    assert bench.delivered == [], "what came with the error was read under the old epoch"


@pytest.mark.parametrize("code", [KafkaError._FATAL, KafkaError.UNRELEASED_INSTANCE_ID, KafkaError.FENCED_INSTANCE_ID])
def test_a_consumer_that_can_do_no_more_is_made_anew(code: int) -> None:
    """`fatal()` is False on the error of a message, whatever happened: the code says it."""
    bench = Bench()
    with pytest.raises(ConsumerLost):
        bench.take(failure(code))


def test_a_consumer_whose_poll_raises_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def poll(_timeout: float) -> None:
        raise KafkaException(KafkaError(KafkaError._FATAL))

    monkeypatch.setattr(bench.consumer, "poll", poll)
    with pytest.raises(ConsumerLost):
        bench.turn()


def test_an_error_that_passes_is_only_said() -> None:
    bench = Bench()
    bench.assign(LANE)
    bench.take(failure(KafkaError._ALL_BROKERS_DOWN), message(0))
    assert bench.delivered == [0]


def test_nothing_is_lost_when_the_worker_ends_before_kafka_said_where_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def read() -> None:
        bench.reader._stopping.set()
        raise PositionsUnknown

    monkeypatch.setattr(bench.reader, "_read", read)
    bench.reader._run()
    assert bench.crashes == []


def test_a_worker_that_ends_does_not_wait_for_what_its_settler_left_open() -> None:
    bench = Bench()
    bench.settler.resolved.clear()
    bench.reader._stopping.set()
    began_at = time.monotonic()
    with pytest.raises(PositionsUnknown):
        bench.assign(LANE)
    assert time.monotonic() - began_at < reading.RESOLVE_S


def test_a_beginning_waits_for_what_its_settler_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.settler.resolved.clear()
    threading.Timer(3 * reading.LOOK_S, bench.settler.resolved.set).start()
    bench.assign(LANE)
    assert [each.key for each in bench.reader.held] == [LANE]
    bench.settler.resolved.clear()
    monkeypatch.setattr(reading, "RESOLVE_S", reading.LOOK_S)
    with pytest.raises(PositionsUnknown):
        bench.assign(TIER)


def test_what_begins_anew_waits_for_a_settlement_that_is_open_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its offsets would be accepted after we asked for them: the partition is ours before and after."""
    bench = Bench(revoke_grace_s=0)
    bench.assign(LANE)
    (before,) = bench.reader.held
    barrier: Any = bench.settler._barrier
    barrier._open = bench.reader.lease

    def end() -> None:
        with barrier._changed:
            barrier._open = None
            barrier._changed.notify_all()

    threading.Timer(3 * reading.LOOK_S, end).start()
    bench.reader._reset(bench.consumer.as_consumer())
    assert barrier._open is None
    (after,) = bench.reader.held
    assert after.epoch > before.epoch
    barrier._open = bench.reader.lease
    monkeypatch.setattr(reading, "RESOLVE_S", reading.LOOK_S)
    with pytest.raises(PositionsUnknown):
        bench.reader._reset(bench.consumer.as_consumer())


def test_a_lost_consumer_leaves_nothing_held_and_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "REJOIN_BACKOFF_S", 0)
    bench = Bench()
    held: list[Sequence[Assigned]] = []

    def read() -> None:
        held.append(bench.reader.held)
        if len(held) == 2:
            bench.reader._stopping.set()
            return
        bench.assign(LANE)
        raise ConsumerLost("fenced")

    monkeypatch.setattr(bench.reader, "_read", read)
    bench.reader._run()
    assert (held, bench.crashes) == ([[], []], [])
    assert bench.reader.lease.epochs == {}
    assert bench.reader.rejoins == 1


def test_any_other_error_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    def read() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.reader, "_read", read)
    bench.reader._run()
    assert [type(error) for error in bench.crashes] == [ZeroDivisionError]


def test_what_would_be_too_much_to_hold_is_read_again_once_its_partition_is_paused() -> None:
    headers = (
        ("fairlane-lane", b"shop.p5"),
        ("fairlane-priority", b"5"),
        ("fairlane-not-before-ms", b"%d" % (now_ms() + 60_000)),
    )
    batch = [message(offset, topic=TIER[0], headers=headers, timestamp_ms=now_ms()) for offset in range(3, 6)]
    bench = Bench(FakeConsumer([batch]), buffer_bytes=4)
    bench.assign(TIER)
    bench.turn()
    calls = [call for call in bench.consumer.calls if call[0] in ("pause", "seek")]
    assert calls == [("pause", [(*TIER, bench.consumer.named("pause")[0][0][2])]), ("seek", [(*TIER, 3)])]


def test_a_drain_pauses_everything_and_takes_no_look_at_what_is_due() -> None:
    """Nothing is resumed any more, so a tier that became due must not keep the thread turning."""
    bench = Bench()
    bench.assign(TIER)
    bench.reader._flow.wait(TIER, NOW_MS)
    bench.reader.drain()
    bench.turn()
    bench.turn()
    assert bench.consumer.patiences_s == [reading.POLL_S] * 2
    assert bench.consumer.named("resume") == [[(*TIER, 0)]], "the one at the assignment"


def test_a_partition_that_comes_during_a_drain_starts_paused() -> None:
    bench = Bench()
    bench.reader.drain()
    bench.turn()
    bench.assign(LANE)
    assert bench.consumer.named("pause")[-1] == [(*LANE, 0)]
    assert bench.consumer.named("resume") == []


def test_pause_or_resume_is_said_for_every_partition_that_is_assigned() -> None:
    bench = Bench()
    bench.assign(LANE, TIER)
    assert bench.consumer.named("assign") == [[(*LANE, 0), (*TIER, 0)]]
    assert bench.consumer.named("resume") == [[(*LANE, 0), (*TIER, 0)]]


def test_a_revocation_settles_what_is_open_and_then_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(revoke_grace_s=0)
    bench.assign(LANE)
    (assigned,) = bench.reader.held
    order: list[str] = []
    post = bench.settler.post

    def answer(*said: Any) -> None:
        for each in said:
            order.append(type(each).__name__)
            if isinstance(each, Closing):
                assert bench.reader.lease.holds(assigned), "what is open may still be settled"
                each.done.set()
        post(*said)

    monkeypatch.setattr(bench.settler, "post", answer)
    bench.turn()
    bench.revoke(LANE)
    assert order == ["Closing", "Dropped"]
    assert not bench.reader.lease.holds(assigned)
    assert bench.consumer.named("unassign") == [[(*LANE, -1001)]]
