"""The settler: what it makes of what it is told, one transaction after the other; on a fake of its producer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from waiting import wait_until
from worker_parts import NOW_MS, P5, completed, config, delivery, lease_of

from fairlane.consumer import settler as settling
from fairlane.consumer.assignment import NO_LEASE, Lease
from fairlane.consumer.delivery import Assigned
from fairlane.consumer.ledger import OffsetToCommit
from fairlane.consumer.outcome import Completed, OutboxRecord, Outcome, size_of
from fairlane.consumer.settle_records import Record
from fairlane.consumer.settlement import Refusal
from fairlane.consumer.settler import Settler
from fairlane.consumer.to_settler import Closing, Delivered, Dropped, Message, Opened, ReachedEnd, RecordLosses, Stop
from fairlane.consumer.transaction import Aborted, ProducerGivenUp
from fairlane.topics.offset_map import OffsetMap, decode

P3 = Assigned("shop.p3", 0, 2)


class Written:
    """What a transaction wrote."""

    def __init__(self, records: Sequence[tuple[int, Record]], offsets: Sequence[OffsetToCommit], lease: Lease) -> None:
        self.topics = [record.topic for _, record in records]
        self.tasks = [(record.key or b"").decode() for _, record in records if record.topic == "shop.status"]
        self.maps: dict[Assigned, OffsetMap] = {}
        for each in offsets:
            known = decode(each.offset, each.metadata)
            assert known is not None
            self.maps[each.assigned] = known
        self.lease = lease


class FakeTransactions:
    """Takes what the settler gives its producer.

    Attributes:
        judge: looks at each transaction before it is written, and raises what Kafka would answer.
    """

    def __init__(self) -> None:
        self.written: list[Written] = []
        self.tried = 0
        self.judge: Callable[[Written, Sequence[tuple[int, Record]]], None] = lambda _written, _records: None

    def init(self) -> None:
        pass

    def close(self) -> None:
        pass

    def run(self, records: Sequence[tuple[int, Record]], offsets: Sequence[OffsetToCommit], lease: Lease) -> None:
        self.tried += 1
        made = Written(records, offsets, lease)
        self.judge(made, records)
        self.written.append(made)


class Bench:
    """A settler on the test's own thread."""

    def __init__(self, **settings: Any) -> None:
        self.lease = lease_of(P5)
        self.settled: list[Outcome] = []
        self.given_up = 0
        self.renewed = 0
        self.crashes: list[BaseException] = []
        self.kafka = FakeTransactions()
        self.settler = Settler(
            config(**settings),
            lambda: self.lease,
            on_settled=self.settled.extend,
            on_given_up=self._give_up,
            on_crash=self.crashes.append,
        )
        self.settler._renew_producer = self._renew  # type: ignore[method-assign]
        self._renew()
        self.renewed = 0

    def _give_up(self) -> None:
        self.given_up += 1

    def _renew(self) -> None:
        self.renewed += 1
        self.settler._producer = self.kafka  # type: ignore[assignment]

    def tell(self, *messages: Message) -> bool:
        """Post messages and let the settler work through them."""
        self.settler.post(*messages)
        taken = [self.settler._inbox.popleft() for _ in range(len(self.settler._inbox))]
        return self.settler._take(taken)

    def open(self, *offsets: int, assigned: Assigned = P5) -> None:
        self.tell(Opened(assigned, 0, 0, None), Delivered(assigned, list(offsets)))

    @property
    def last(self) -> Written:
        return self.kafka.written[-1]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(settling, "STUCK_BACKOFF_S", 0)
    return Bench()


def outbox(offset: int, topic: str = "audit-log") -> Completed:
    return Completed(delivery(offset), NOW_MS, NOW_MS, b"null", (OutboxRecord(topic, b"x"),))


def test_outcomes_that_arrived_together_are_settled_together(bench: Bench) -> None:
    bench.open(0, 1, 2)
    bench.tell(completed(0), completed(2))
    assert bench.last.tasks == ["t-0", "t-2"]
    assert bench.last.maps[P5].unfinished == (1,)
    assert bench.settled == [completed(0), completed(2)]


def test_nothing_new_is_no_transaction(bench: Bench) -> None:
    bench.open()
    before = bench.kafka.tried
    bench.tell(Delivered(P5, [0]))
    assert bench.kafka.tried == before


def test_nothing_is_written_before_there_is_a_lease(bench: Bench) -> None:
    bench.lease = NO_LEASE
    bench.open(0)
    assert bench.kafka.tried == 0
    bench.lease = lease_of(P5)
    bench.tell()
    assert bench.last.maps[P5].watermark == 0


def test_the_offsets_go_with_the_lease_that_the_outcomes_were_held_against(bench: Bench) -> None:
    bench.open(0)
    bench.lease = lease_of(P5, number=9, metadata="newest")
    bench.tell(completed(0))
    assert bench.last.lease.metadata == "newest"


def test_an_outcome_of_a_partition_that_left_is_dropped_and_its_offset_never_committed(bench: Bench) -> None:
    """It counts as finished in the books: were they used again, its record would be passed over."""
    bench.open(0)
    bench.lease = lease_of(P3)
    bench.tell(completed(0))
    assert bench.settled == []
    bench.lease = lease_of(P5)
    bench.tell(ReachedEnd(P5, 1))
    assert all(written.maps.get(P5, OffsetMap(0, -1)).watermark == 0 for written in bench.kafka.written)


def test_an_outcome_of_an_older_epoch_is_dropped(bench: Bench) -> None:
    bench.open(0)
    again = Assigned("shop.p5", 0, 9)
    bench.lease = lease_of(again)
    bench.tell(Dropped((P5,)), Opened(again, 0, 0, None), completed(0))
    assert bench.settled == []
    assert bench.last.maps[again].watermark == 0


def test_a_batch_is_settled_in_parts_when_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction has a time limit; what gathered while Kafka was away may be more than fits into one."""
    monkeypatch.setattr(settling, "BATCH_MAX", 3)
    bench = Bench()
    bench.open(*range(8))
    bench.tell(*[completed(offset) for offset in range(8)])
    assert [len(written.tasks) for written in bench.kafka.written[-3:]] == [3, 3, 2]
    assert bench.last.maps[P5].watermark == 8


def test_a_batch_is_settled_in_parts_when_it_has_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "BATCH_MAX_BYTES", 2 * size_of(completed(0)))
    bench = Bench()
    bench.open(*range(4))
    bench.tell(*[completed(offset) for offset in range(4)])
    assert [len(written.tasks) for written in bench.kafka.written[-2:]] == [2, 2]


def test_what_waits_to_be_settled_is_counted_until_it_is_settled_or_dropped(bench: Bench) -> None:
    bench.open(0, 1)
    stale = completed(0, assigned=P3)
    bench.settler.post(completed(0), completed(1), stale)
    assert bench.settler.backlog == 3
    assert bench.settler.backlog_bytes == sum(map(size_of, (completed(0), completed(1), stale)))
    bench.tell()
    assert (bench.settler.backlog, bench.settler.backlog_bytes) == (0, 0)


def test_what_is_no_outcome_does_not_count_as_one(bench: Bench) -> None:
    bench.settler.post(Opened(P5, 0, 0, None), Delivered(P5, [0]), ReachedEnd(P5, 1))
    assert bench.settler.backlog == 0


def test_an_aborted_transaction_is_made_again_under_the_newest_lease(bench: Bench) -> None:
    bench.open(0)
    bench.open(0, assigned=P3)
    bench.lease = lease_of(P5, P3)

    def judge(written: Written, _records: Any) -> None:
        if written.lease.number == 1:
            bench.lease = lease_of(P5, number=2)
            raise Aborted("stale member epoch")

    bench.kafka.judge = judge
    bench.tell(completed(0), completed(0, assigned=P3))
    assert bench.settled == [completed(0)]
    assert set(bench.last.maps) == {P5}


def test_a_refused_outbox_makes_its_task_dead_and_the_others_settle(bench: Bench) -> None:
    bench.open(0, 1)

    def judge(_written: Written, records: Sequence[tuple[int, Record]]) -> None:
        refused = tuple(Refusal(i, r.topic, "_UNKNOWN_TOPIC", "no") for i, r in records if r.topic == "audit-log")
        if refused:
            raise Aborted("refused", refused)

    bench.kafka.judge = judge
    bench.tell(completed(0), outbox(1))
    assert bench.last.topics == ["shop.status", "shop.dlq", "shop.status"]
    assert bench.last.maps[P5].watermark == 2


def test_a_topic_of_somebody_elses_that_takes_nothing_in_time_holds_its_own_outcome_up_and_then_no_longer(
    bench: Bench,
) -> None:
    bench.open(0)

    def judge(_written: Written, records: Sequence[tuple[int, Record]]) -> None:
        late = tuple(Refusal(i, r.topic, "_MSG_TIMED_OUT", "late") for i, r in records if r.topic == "audit-log")
        if late:
            raise Aborted("late", late=late)

    bench.kafka.judge = judge
    before = bench.kafka.tried
    bench.tell(outbox(0))
    assert bench.kafka.tried == before + settling.LATE_AFTER + 1
    assert bench.last.topics == ["shop.dlq", "shop.status"]


def test_while_topics_of_our_own_are_late_too_nobody_is_blamed(bench: Bench) -> None:
    bench.open(0)
    tries = 0

    def judge(_written: Written, records: Sequence[tuple[int, Record]]) -> None:
        nonlocal tries
        tries += 1
        if tries <= 10:
            raise Aborted("late", late=tuple(Refusal(i, r.topic, "_MSG_TIMED_OUT", "late") for i, r in records))

    bench.kafka.judge = judge
    bench.tell(outbox(0))
    assert bench.last.topics == ["audit-log", "shop.status"]


def test_a_batch_that_fails_without_a_name_is_halved_until_the_others_settle(bench: Bench) -> None:
    """And no commit speaks of what is in none: the part that waits is open in the map."""
    bench.open(*range(8))
    written_offsets: set[int] = set()

    def judge(written: Written, _records: Any) -> None:
        if len(written.tasks) > 1 and "t-5" in written.tasks:
            raise Aborted("who knows why")
        written_offsets.update(int(name.removeprefix("t-")) for name in written.tasks)
        for known in written.maps.values():
            claimed = {offset for offset in range(8) if known.finished(offset)}
            assert claimed <= written_offsets

    bench.kafka.judge = judge
    bench.tell(*[completed(offset) for offset in range(8)])
    assert len(bench.settled) == 8
    assert bench.last.maps[P5].watermark == 8


def test_a_producer_that_is_given_up_is_renewed_and_everything_unsettled_is_read_again(bench: Bench) -> None:
    bench.open(0, 1)

    def judge(_written: Written, _records: Any) -> None:
        bench.kafka.judge = lambda _w, _r: None
        raise ProducerGivenUp("fenced")

    bench.kafka.judge = judge
    bench.tell(completed(0), completed(1))
    assert (bench.given_up, bench.renewed) == (1, 1)
    before = bench.kafka.tried
    bench.tell(completed(1), Delivered(P5, [2]))
    assert bench.settled == []
    assert bench.kafka.tried == before, "its books are void"
    assert bench.settler.backlog == 0


def test_losses_are_told_to_be_recorded_only_when_they_are_in_kafka(bench: Bench) -> None:
    told: list[str] = []
    bench.open(0)
    bench.lease = lease_of(P3)
    bench.tell(RecordLosses(P5, {0: 1}, lambda: told.append("recorded")))
    assert told == [], "the lease does not hold the partition yet"
    bench.lease = lease_of(P5)
    bench.tell()
    assert told == ["recorded"]
    assert bench.last.maps[P5].losses == {0: 1}
    bench.tell(completed(0))
    assert told == ["recorded"], "once"


def test_losses_of_an_assignment_that_is_over_are_nobodys(bench: Bench) -> None:
    told: list[str] = []
    bench.tell(RecordLosses(P5, {0: 1}, lambda: told.append("recorded")))
    assert told == []
    assert not bench.settler._ledger.has_news


def test_closing_settles_what_came_before_and_says_that_we_leave_in_order(bench: Bench) -> None:
    bench.open(0)
    done = threading.Event()
    bench.tell(completed(0), Closing((P5,), done))
    assert done.is_set()
    assert (bench.last.tasks, bench.last.maps[P5].clean) == (["t-0"], True)
    bench.tell(ReachedEnd(P5, 9))
    assert bench.last.maps[P5].watermark == 1


def test_stop_settles_what_came_before_and_ends(bench: Bench) -> None:
    bench.open(0)
    assert not bench.tell(completed(0), Stop())
    assert bench.last.tasks == ["t-0"]


def test_what_can_never_be_settled_does_not_keep_a_worker_from_ending(bench: Bench) -> None:
    bench.open(0)

    def judge(_written: Written, _records: Any) -> None:
        bench.settler._ending.set()
        raise Aborted("for ever")

    bench.kafka.judge = judge
    with pytest.raises(ProducerGivenUp):
        bench.tell(completed(0))


def test_a_barrier_is_passed_when_no_transaction_of_an_older_lease_is_open(bench: Bench) -> None:
    bench.lease = lease_of(P5, number=4)
    bench.open(0)
    entered, leave = threading.Event(), threading.Event()

    def judge(_written: Written, _records: Any) -> None:
        entered.set()
        assert leave.wait(60)

    bench.kafka.judge = judge
    at_work = threading.Thread(target=bench.tell, args=(completed(0),))
    at_work.start()
    assert entered.wait(60)
    assert bench.settler.wait_past(4, 0), "this one runs under it"
    assert not bench.settler.wait_past(5, 0.01), "that one would send the offsets of what left"
    leave.set()
    assert bench.settler.wait_past(5, 5)
    at_work.join(60)


def test_a_settler_that_cannot_begin_ends_the_worker_instead_of_settling_nothing(bench: Bench) -> None:
    def refuse() -> None:
        raise ProducerGivenUp("TRANSACTIONAL_ID_AUTHORIZATION_FAILED")

    bench.settler._renew_producer = refuse  # type: ignore[method-assign]
    bench.settler._run()
    assert [type(error) for error in bench.crashes] == [ProducerGivenUp]


def test_a_worker_that_ends_while_its_producer_cannot_begin_has_not_crashed(bench: Bench) -> None:
    def refuse() -> None:
        raise ProducerGivenUp("nobody waits")

    bench.settler._renew_producer = refuse  # type: ignore[method-assign]
    bench.settler._ending.set()
    bench.settler._run()
    assert bench.crashes == []


def test_a_bug_ends_the_worker(bench: Bench) -> None:
    bench.settler.post(Opened(P5, 0, 0, None), Delivered(P5, [1, 0]))
    bench.settler._run()
    assert len(bench.crashes) == 1


def test_its_thread_settles_what_is_posted_and_stops_when_it_is_told(bench: Bench) -> None:
    bench.settler.start()
    bench.settler.post(Opened(P5, 0, 0, None), Delivered(P5, [0]), completed(0))
    assert bench.settler.stop(5)
    assert bench.settled == [completed(0)]


def test_the_last_outcomes_of_a_burst_do_not_wait_for_others_however_slow_commits_are() -> None:
    bench = Bench(linger_max_s=60.0)
    bench.settler._linger.observe(15.0)
    burst = range(settling.GATHERING)
    bench.settler.post(Opened(P5, 0, 0, None), Delivered(P5, list(burst)), *map(completed, burst))
    bench.settler.start()
    wait_until(lambda: len(bench.settled) == len(burst), "the burst to be settled", 10)
    assert bench.settler.stop(5)


def test_the_reader_is_told_how_far_each_partition_is(bench: Bench) -> None:
    bench.open(0, 1, 2)
    bench.tell(completed(0), completed(2))
    progress = bench.settler.progress[P5]
    assert (progress.watermark, progress.finished) == (1, 2)


def test_a_letter_that_not_even_thrift_makes_small_enough_is_said_aloud(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.open(0)

    def judge(_written: Written, records: Sequence[tuple[int, Record]]) -> None:
        refused = tuple(
            Refusal(i, r.topic, "MSG_SIZE_TOO_LARGE", "no") for i, r in records if r.topic in ("shop.dlq", "audit-log")
        )
        if refused:
            raise Aborted("refused", refused)

    bench.kafka.judge = judge
    bench.tell(outbox(0))
    assert bench.last.topics == ["shop.status"]
    assert "even the dead letter is too large for topic shop.dlq" in caplog.text
