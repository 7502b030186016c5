"""Whose transactions are ended: the dead's, by the brokers' clock, and by one worker."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from confluent_kafka import Message, Producer
from hypothesis import given
from hypothesis import strategies as st
from kafka_client_fakes import FakeConsumer, FakeMessage, end_of_partition
from worker_parts import NOW_MS, config
from working_queue import WorkingQueue, working_queue

from fairlane.consumer import takeover
from fairlane.consumer.takeover import SILENT_MS, STALE_MS, TakeOver, is_first, is_gone, to_take
from fairlane.consumer.transaction import transactional_properties
from fairlane.topics import events
from fairlane.topics.events import Heartbeat


def beat(worker: str, silent_ms: int = 0, **fields: Any) -> Heartbeat:
    """A heartbeat of so long ago."""
    chosen = {"transactional_id": f"fairlane-shop-{worker}-1", **fields}
    return Heartbeat(worker=worker, at_ms=NOW_MS - silent_ms, **chosen)


def taken(*beats: Heartbeat, me: str = "a") -> list[str]:
    return [each.worker for each in to_take({each.worker: each for each in beats}, me, NOW_MS)]


@pytest.mark.parametrize(
    ("other", "is_taken"),
    [
        (beat("b"), False),  # it lives
        (beat("b", SILENT_MS - 1), False),  # it may be slow
        (beat("b", SILENT_MS), True),  # the group has given its partitions to others by now
        (beat("b", STALE_MS - 1), True),
        (beat("b", STALE_MS), False),  # its transactions have ended by themselves
        (beat("b", SILENT_MS, state="stopped"), False),  # it left in good order, or was taken before
        (beat("b", SILENT_MS, state="draining"), True),
        (beat("b", SILENT_MS, transactional_id=""), False),  # it has none
    ],
)
def test_a_worker_that_fell_silent_is_taken_for_dead(other: Heartbeat, is_taken: bool) -> None:
    assert taken(beat("a"), other) == (["b"] if is_taken else [])


def test_a_worker_never_takes_itself() -> None:
    assert taken(beat("a", SILENT_MS)) == []


def test_the_first_by_name_of_those_that_live_takes_all_the_dead() -> None:
    beats = (beat("b"), beat("c"), beat("a", SILENT_MS), beat("d", SILENT_MS))
    assert taken(*beats, me="b") == ["a", "d"]
    assert taken(*beats, me="c") == []


def test_a_worker_whose_own_heartbeat_was_not_read_yet_counts_as_living() -> None:
    assert taken(beat("b", SILENT_MS), me="a") == ["b"]
    assert is_first({}, "a", NOW_MS)


NO_PID = 2**22 + 1
"""Larger than Linux gives out."""
LATER_MS = time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("other", "gone"),
    [
        (beat("a", host="h", pid=NO_PID), True),
        (beat("a", host="h", pid=2**80), True),  # anybody may write a heartbeat
        (beat("a", host="h", pid=os.getppid()), False),  # it may still run, or another process has its pid
        (beat("a", host="elsewhere", pid=NO_PID), False),  # nobody here can tell
        (beat("a", host="h"), False),
        (beat("a", host="h", pid=os.getpid(), started_ms=NOW_MS), True),  # pid 1 of the container before this one
        (beat("a", host="h", pid=os.getpid(), started_ms=LATER_MS), False),  # another worker in this process
    ],
)
def test_an_earlier_start_is_gone_when_this_host_has_no_such_process(other: Heartbeat, gone: bool) -> None:
    def runs(pid: int) -> bool:
        return takeover._runs(pid)

    assert is_gone(other, "h", runs) is gone


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2 * STALE_MS), min_size=1))
def test_exactly_one_of_those_that_live_takes_and_nobody_takes_the_living(silences: dict[str, int]) -> None:
    beats = {name: beat(name, silent_ms) for name, silent_ms in silences.items()}
    living = [name for name, silent_ms in silences.items() if silent_ms < SILENT_MS]
    takers = [me for me in living if to_take(beats, me, NOW_MS)]
    assert len(takers) <= 1
    for me in takers:
        assert not {each.worker for each in to_take(beats, me, NOW_MS)} & set(living)


def appended(heartbeat: Heartbeat, at_ms: int) -> Message:
    """The record of a heartbeat, as the broker appended it then."""
    return cast("Message", FakeMessage(0, events.encode(heartbeat), topic="shop.workers", timestamp_ms=at_ms))


def seconds_of(worker: str, since_ms: int, until_ms: int) -> list[Message]:
    """Its heartbeats of this time, one a second."""
    return [appended(beat(worker), at_ms) for at_ms in range(since_ms + 1_000, until_ms + 1, 1_000)]


class Bench:
    """A take-over on the test's own thread that ends nobody's transactions, and notes whose."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ended: list[str] = []
        self.buried: list[Heartbeat] = []
        self.take_over = TakeOver(config(worker="a"))

        def end(_config: Any, transactional_id: str, _stopping: Any) -> None:
            self.ended.append(transactional_id)

        def bury(gone: Heartbeat) -> None:
            self.buried.append(gone)
            self.take_over._beats.pop(gone.worker)

        monkeypatch.setattr(takeover, "_end_transaction", end)
        monkeypatch.setattr(self.take_over, "_bury", bury)

    def follow(self, *messages: Message) -> list[str]:
        """Read a batch; returns whose transactions were ended by now."""
        self.take_over._follow(FakeConsumer([list(messages)]).as_consumer())
        return [each.worker for each in self.buried]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


END = end_of_partition(9, topic="shop.workers")


def test_nobody_is_judged_before_all_heartbeats_were_read(bench: Bench) -> None:
    """A topic holds an hour of them: an old one of a worker that lives must not look like its last."""
    assert bench.follow(appended(beat("b"), NOW_MS - 60_000), appended(beat("a"), NOW_MS - 50_000)) == []
    assert bench.follow(appended(beat("b"), NOW_MS), END) == []
    assert bench.follow(*seconds_of("a", NOW_MS, NOW_MS + SILENT_MS)) == ["b"]


def test_silence_is_told_by_the_brokers_clock_whatever_the_workers_clocks_say(bench: Bench) -> None:
    fast, slow = beat("b", -3_600_000), beat("c", 3_600_000)
    assert bench.follow(appended(fast, NOW_MS), appended(slow, NOW_MS), appended(beat("a"), NOW_MS), END) == []
    until = seconds_of("a", NOW_MS, NOW_MS + SILENT_MS)
    assert bench.follow(*until[:-1], appended(slow, NOW_MS + SILENT_MS), until[-1]) == ["b"]


def test_a_worker_that_hears_nothing_of_itself_judges_nobody(bench: Bench) -> None:
    """Time goes on in the topic with its own heartbeats: without a connection it does not."""
    bench.follow(appended(beat("b"), NOW_MS), END)
    assert bench.follow() == []


def test_an_outage_in_which_nobody_could_write_makes_nobody_look_dead(bench: Bench) -> None:
    """The first heartbeat after it is of one worker; those of the others are a moment later."""
    bench.follow(appended(beat("a"), NOW_MS), appended(beat("b"), NOW_MS), END)
    assert bench.follow(appended(beat("a"), NOW_MS + 60_000)) == []
    assert bench.follow(appended(beat("b"), NOW_MS + 60_300), appended(beat("a"), NOW_MS + 61_000)) == []


def test_one_that_died_in_an_outage_is_taken_when_it_stays_silent_after_it(bench: Bench) -> None:
    bench.follow(appended(beat("a"), NOW_MS), appended(beat("b"), NOW_MS), END)
    after = seconds_of("a", NOW_MS + 59_000, NOW_MS + 67_000)
    assert bench.follow(*after[:5]) == []
    assert bench.follow(*after[5:]) == ["b"]


def test_who_was_last_heard_before_nobody_ran_for_long_is_stale_and_no_outage(bench: Bench) -> None:
    bench.follow(appended(beat("b"), NOW_MS), appended(beat("a"), NOW_MS + STALE_MS), END)
    assert bench.follow(appended(beat("a"), NOW_MS + STALE_MS + SILENT_MS)) == []


def test_an_id_of_somebody_elses_is_never_taken(bench: Bench) -> None:
    """Anybody may write a heartbeat: it must not end the transactions of another application."""
    bench.follow(appended(beat("b", transactional_id="payments-1"), NOW_MS), END)
    bench.follow(*seconds_of("a", NOW_MS, NOW_MS + SILENT_MS))
    assert bench.ended == []
    bench.follow(appended(beat("c"), NOW_MS + SILENT_MS))
    bench.follow(*seconds_of("a", NOW_MS + SILENT_MS, NOW_MS + 2 * SILENT_MS))
    assert bench.ended == ["fairlane-shop-c-1"]


def test_what_is_no_heartbeat_is_passed_over(bench: Bench) -> None:
    rubbish = cast("Message", FakeMessage(0, b"no json", topic="shop.workers", timestamp_ms=NOW_MS))
    tombstone = cast("Message", FakeMessage(1, None, topic="shop.workers", timestamp_ms=NOW_MS))
    assert bench.follow(rubbish, tombstone, END) == []


def test_the_chores_of_a_queue_are_those_of_the_first_worker(bench: Bench) -> None:
    bench.follow(appended(beat("a"), NOW_MS), appended(beat("b"), NOW_MS), END)
    assert bench.take_over.first


def earlier(worker: str = "a", start: int = 0, **fields: Any) -> Heartbeat:
    """A heartbeat of a start before the one of `beat(worker)`, on this host."""
    chosen = {"host": socket.gethostname(), "pid": NO_PID, **fields}
    return beat(worker, transactional_id=f"fairlane-shop-{worker}-earlier-{start}", **chosen)


def test_what_an_earlier_start_of_this_worker_left_open_is_ended_at_once(bench: Bench) -> None:
    """Within the session timeout nobody else can tell that it is not slow."""
    bench.follow(appended(earlier(start=1), NOW_MS - 900), appended(earlier(start=2), NOW_MS), END)
    assert bench.ended == ["fairlane-shop-a-earlier-1"]
    bench.follow(appended(beat("a"), NOW_MS + 100))
    assert bench.ended == ["fairlane-shop-a-earlier-1", "fairlane-shop-a-earlier-2"]
    bench.follow(appended(beat("a"), NOW_MS + 200))
    assert len(bench.ended) == 2
    assert bench.buried == []  # its name lives


def test_an_earlier_start_that_ended_in_good_order_left_nothing_open(bench: Bench) -> None:
    bench.follow(appended(earlier(state="stopped"), NOW_MS), appended(beat("a"), NOW_MS), END)
    assert bench.ended == []


def test_an_earlier_start_that_may_live_is_judged_by_its_silence_and_by_the_first_worker(bench: Bench) -> None:
    elsewhere = earlier("b", host="elsewhere")
    bench.follow(appended(elsewhere, NOW_MS), appended(beat("b"), NOW_MS), appended(beat("a"), NOW_MS), END)
    assert bench.ended == []
    until = seconds_of("a", NOW_MS, NOW_MS + SILENT_MS)
    bench.follow(*until[:-1], appended(beat("b"), NOW_MS + SILENT_MS), until[-1])
    assert bench.ended == ["fairlane-shop-b-earlier-0"]


def test_two_workers_that_live_under_one_name_do_not_end_each_others_transactions(bench: Bench) -> None:
    """A mistake of who named them, which must not cost them all that they do."""
    here, there = beat("a", host=socket.gethostname(), pid=os.getpid(), started_ms=LATER_MS), earlier(host="elsewhere")
    bench.follow(END)
    for second in range(20):
        bench.follow(appended(here, NOW_MS + 1_000 * second), appended(there, NOW_MS + 1_000 * second))
    assert bench.ended == []


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=1) as queue:
        yield queue


@pytest.mark.kafka
def test_a_worker_that_is_killed_and_started_again_holds_up_no_reader_of_results(queue: WorkingQueue) -> None:
    """Its successor ends the transaction at once, and not Kafka after its timeout and a scan."""
    killed = queue.config(worker="w", start="first")
    properties = transactional_properties(queue.connection, killed.transactional_id_prefix)
    left_open = Producer({**properties, "transaction.timeout.ms": 300_000})
    left_open.init_transactions(10)
    left_open.begin_transaction()
    left_open.produce(queue.names.status, b"half", b"t-half")
    left_open.flush(10)
    plain = Producer(queue.connection.producer())
    last = Heartbeat(worker="w", host=socket.gethostname(), pid=NO_PID, transactional_id=killed.transactional_id_prefix)
    plain.produce(queue.names.workers, events.encode(last), b"w")
    plain.flush(10)

    def work(number: int) -> int:
        return number

    with queue.worker(work, worker="w", start="second"):
        task = queue.task("work", b'{"number": 1}')
        queue.send(task)
        queue.wait_event(task, "completed")
