"""What a snapshot says of a queue, on a real broker whose records the test wrote itself."""

from __future__ import annotations

import pytest
from written_queue import MINUTE, WrittenQueue, now_ms

from fairlane.monitor.snapshot import Watcher, collect
from fairlane.monitor.stats import Stats, TopicStats
from fairlane.topics import offset_map
from fairlane.topics.audit import AuditRecord
from fairlane.topics.connection import Connection
from fairlane.topics.errors import KafkaUnreachable, QueueUnknown
from fairlane.topics.events import Counters, Heartbeat, RunningTask, TypeTimes
from fairlane.topics.names import QueueNames
from fairlane.topics.offset_map import OffsetMap

pytestmark = pytest.mark.kafka


def snapshot(written: WrittenQueue) -> Stats:
    return collect(written.connection, written.names, now_ms=now_ms())


def topic_of(stats: Stats, topic: str) -> TopicStats:
    return next(one for one in (*stats.lanes, *stats.tiers) if one.topic == topic)


def test_a_queue_that_is_empty_is_all_zero(written: WrittenQueue) -> None:
    stats = snapshot(written)
    assert (stats.queue_length, stats.running_tasks, stats.worker_count, stats.lag) == (0, 0, 0, 0)
    assert [lane.topic for lane in stats.lanes] == [written.names.lane(5), written.names.lane(3)]
    assert [tier.delay_ms for tier in stats.tiers] == [1_000, 60_000]


def test_a_lane_is_as_long_as_what_is_not_settled_in_it(written: WrittenQueue) -> None:
    for _ in range(5):
        written.enqueue(written.task(), partition=1)
    written.commit({(written.names.lane(3), 1): 2})
    stats = snapshot(written)
    lane = topic_of(stats, written.names.lane(3))
    assert (lane.length, lane.exact, lane.lag) == (3, True, 3)
    assert (stats.queue_length, stats.lag) == (3, 3)


def test_markers_of_transactions_are_no_tasks(written: WrittenQueue) -> None:
    for _ in range(4):
        written.to_tier(written.task(lane=written.names.lane(3), key=b"same"))
    stats = snapshot(written)
    tier = topic_of(stats, written.names.tier(MINUTE))
    assert (tier.length, tier.exact, tier.lag) == (4, True, 8)
    assert (stats.delayed_tasks, stats.queue_length) == (4, 0)


def test_a_long_lane_is_an_estimate_with_the_age_of_its_oldest_task(written: WrittenQueue) -> None:
    before_ms = now_ms()
    for _ in range(3):
        written.settle(*((written.names.lane(5), b"{}", b"same", ()) for _ in range(500)))
    with Watcher(written.connection, written.names) as watcher:
        lane = topic_of(watcher.collect(now_ms()), written.names.lane(5))
        assert (lane.length, lane.exact) == (1503, False)
        later_ms = now_ms() + 60_000
        again = topic_of(watcher.collect(later_ms), written.names.lane(5))
    assert 60_000 <= again.oldest_age_ms <= later_ms - before_ms


def test_a_watcher_counts_on_as_records_come_and_are_settled(written: WrittenQueue) -> None:
    lane = written.names.lane(5)
    with Watcher(written.connection, written.names) as watcher:
        written.enqueue(written.task(), 5, partition=0)
        written.enqueue(written.task(), 5, partition=0)
        assert topic_of(watcher.collect(now_ms()), lane).length == 2
        written.enqueue(written.task(), 5, partition=0)
        assert topic_of(watcher.collect(now_ms()), lane).length == 3
        written.commit({(lane, 0): 2})
        assert topic_of(watcher.collect(now_ms()), lane).length == 1
        written.commit({(lane, 0): 3})
        last = topic_of(watcher.collect(now_ms()), lane)
        assert (last.length, last.oldest_age_ms, last.lag) == (0, 0, 0)


def test_a_task_that_runs_is_not_waiting(written: WrittenQueue) -> None:
    lane = written.names.lane(3)
    topic, partition, offset = written.enqueue(written.task("a"), partition=2)
    written.enqueue(written.task("b"), partition=2)
    running = RunningTask("a", "email", now_ms() - 2_000, f"{topic}/{partition}", offset)
    written.beat(
        Heartbeat(worker="w1", at_ms=now_ms(), started_ms=now_ms() - 60_000, concurrency=4, running=1,
                  running_tasks=(running,), utilisation=0.25)
    )  # fmt: skip
    stats = snapshot(written)
    assert topic_of(stats, lane).length == 1
    assert (stats.queue_length, stats.running_tasks, stats.slots) == (1, 1, 4)
    assert stats.running[0].worker == "w1"
    assert stats.running[0].age_ms >= 2_000


def test_tasks_that_are_finished_behind_one_that_runs_do_not_wait(written: WrittenQueue) -> None:
    lane = written.names.lane(3)
    for _ in range(6):
        written.enqueue(written.task(), partition=0)
    written.commit({(lane, 0): 1}, offset_map.encode(OffsetMap(1, 4, (1, 3))))
    found = topic_of(snapshot(written), lane)
    assert (found.length, found.lag, found.exact) == (3, 5, True)


@pytest.mark.parametrize("metadata", ["", "somebody else's", offset_map.encode(OffsetMap(1, 99, (1,)))])
def test_a_map_that_cannot_be_trusted_finishes_nothing(written: WrittenQueue, metadata: str) -> None:
    lane = written.names.lane(3)
    for _ in range(3):
        written.enqueue(written.task(), partition=0)
    written.commit({(lane, 0): 1}, metadata)
    assert topic_of(snapshot(written), lane).length == 2


def test_totals_are_those_of_all_workers_and_times_are_weighted(written: WrittenQueue) -> None:
    at_ms = now_ms()
    written.beat(
        Heartbeat(worker="gone", at_ms=at_ms - 600_000, state="stopped", counters=Counters(60, failed=2, retried=5))
    )
    written.beat(
        Heartbeat(
            worker="here", at_ms=at_ms, started_ms=at_ms - 20_000, concurrency=10, utilisation=0.5,
            counters=Counters(completed=40, failed=1, retried=1),
            types={"email": TypeTimes(30, 100.0, 200.0), "report": TypeTimes(10, 500.0, 600.0)},
        )
    )  # fmt: skip
    stats = snapshot(written)
    assert (stats.completed_tasks, stats.failed_tasks, stats.retried_attempts) == (100, 3, 6)
    assert (stats.worker_count, stats.workers_known, stats.utilisation) == (1, 1, 0.5)
    assert (stats.avg_process_time_s, stats.p95_process_time_s) == (0.2, 0.3)
    assert [one.type for one in stats.types] == ["email", "report"]


def test_a_worker_without_heartbeats_is_lost_not_active(written: WrittenQueue) -> None:
    written.beat(Heartbeat(worker="lost", at_ms=now_ms() - 20_000, running=3))
    written.beat(Heartbeat(worker="here", at_ms=now_ms()))
    stats = snapshot(written)
    assert (stats.worker_count, stats.workers_known, stats.running_tasks) == (1, 2, 0)
    assert {worker.worker: worker.state for worker in stats.workers} == {"here": "running", "lost": "lost"}


def test_rates_come_from_heartbeats_and_ends(written: WrittenQueue) -> None:
    at_ms = now_ms()
    for seconds, completed in ((4, 100), (2, 140), (0, 180)):
        written.beat(
            Heartbeat(worker="w", at_ms=at_ms - seconds * 1_000, started_ms=at_ms - 90_000,
                      counters=Counters(completed=completed, retried=completed // 2))
        )  # fmt: skip
    for _ in range(20):
        written.enqueue(written.task())
    rates = snapshot(written).rates
    assert (rates.completed_per_s, rates.retried_per_s, rates.failed_per_s) == (20.0, 10.0, 0.0)
    assert 1.5 <= rates.enqueued_per_s <= 2.5


def test_a_foreign_lane_is_found_by_the_workers_that_read_it(written: WrittenQueue) -> None:
    foreign = f"{written.names.queue}-orders"
    written.create({foreign: {}})
    written.send(foreign, b"{}", partition=0)
    written.send(foreign, b"{}", partition=0)
    written.commit({(foreign, 0): 1})
    written.beat(Heartbeat(worker="w", at_ms=now_ms(), partitions=(f"{foreign}/0", f"{written.names.lane(3)}/0")))
    lane = topic_of(snapshot(written), foreign)
    assert (lane.length, lane.kind, lane.level) == (1, "lane", 0)


def test_an_unknown_queue_says_how_to_make_it(kafka: str, queue: str) -> None:
    with pytest.raises(QueueUnknown, match=f"fairlane topics create --queue {queue}"):
        collect(Connection(kafka), QueueNames(queue), now_ms=now_ms())


def test_a_letter_counts_until_it_is_replayed(written: WrittenQueue) -> None:
    letters = [written.die(written.enqueue(written.task(key=b"k"))) for _ in range(3)]
    assert snapshot(written).dead_letters == 3
    written.audit(AuditRecord(at_ms=now_ms(), action="replay", letter="/".join(map(str, letters[0]))))
    assert snapshot(written).dead_letters == 2


def test_an_unreachable_kafka_is_said_within_the_timeout(queue: str) -> None:
    with pytest.raises(KafkaUnreachable):
        collect(Connection("127.0.0.1:1"), QueueNames(queue), now_ms=now_ms(), timeout_s=0.5)
