"""What Prometheus gets of a monitor: the numbers of its snapshot, in tasks and in seconds, and how far its store is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from served_queue import VIEWER, ServedQueue, served_queue
from written_queue import MINUTE, WrittenQueue, now_ms

from fairlane.monitor import measures
from fairlane.topics.events import ErrorInfo, Heartbeat, RunningTask, StatusEvent
from fairlane.topics.held_back import HeldBack

pytestmark = pytest.mark.kafka

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


@pytest.fixture(scope="module")
def served(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedQueue]:
    """Two tasks wait, one is in a tier, one runs and holds others back, one is dead; of two workers one is lost."""
    written = WrittenQueue(kafka, f"t-measured-{now_ms()}")
    names = written.names
    try:
        for each in ("a", "b"):
            written.enqueue(written.task(each), level=5)
        written.to_tier(written.read_back(written.enqueue(written.task("again"), level=3)), MINUTE)
        topic, partition, offset = written.enqueue(written.task("runs"))
        running = RunningTask("runs", "email", now_ms() - 900, f"{topic}/{partition}", offset)
        held = HeldBack(f"{topic}/{partition}", offset, "runs", "email", "running", now_ms() - 90_000, 20_000, 1)
        written.beat(Heartbeat(worker="w1", at_ms=now_ms(), concurrency=4, running=1, state="running",
                               running_tasks=(running,), held_back=(held,)))  # fmt: skip
        written.beat(Heartbeat(worker="w2", at_ms=now_ms() - 60_000, concurrency=4, state="running"))
        dead = written.enqueue(written.task("dead"), level=3)
        written.die(dead, "fatal", ErrorInfo("ValueError", "no"))
        written.say(StatusEvent("dead", "email", "failed", names.lane(3), 1, 5, now_ms(), now_ms(), now_ms(),
                                topic=dead[0], partition=dead[1], offset=dead[2], reason="fatal"))  # fmt: skip
        with served_queue(written, tmp_path_factory.mktemp("measured")) as served:
            yield served
    finally:
        written.delete()


def scrape(served: ServedQueue) -> dict[str, Metric]:
    answer = served.client(VIEWER).get("/metrics", headers={"Accept": OPEN_METRICS})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}  # type: ignore[no-untyped-call]


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    (found,) = (each for each in families[name].samples if labels.items() <= each.labels.items())
    return found.value


def test_a_scrape_has_the_numbers_of_the_snapshot(served: ServedQueue) -> None:
    found, names = scrape(served), served.written.names
    stats = served.serving.look().stats
    assert value(found, "fairlane_lane_lag_tasks", lane=names.lane(5), queue=names.queue) == 2
    age_s = value(found, "fairlane_lane_lag_seconds", lane=names.lane(5))
    assert age_s == stats.lanes[0].oldest_age_ms / 1000 > 0
    assert value(found, "fairlane_lane_lag_seconds", lane=names.lane(3)) > 0
    assert value(found, "fairlane_tier_tasks", tier=names.tier(MINUTE)) == 1
    assert value(found, "fairlane_tier_delay_seconds", tier=names.tier(MINUTE)) == 60
    assert value(found, "fairlane_dlq_letters") == 1
    assert value(found, "fairlane_queue_tasks_running") == 1
    workers = {each.labels["state"]: each.value for each in found["fairlane_queue_workers"].samples}
    assert workers == {"starting": 0, "running": 1, "draining": 0, "lost": 1, "newer": 0}
    assert value(found, "fairlane_queue_held_back_partitions", state="running") == 1
    assert value(found, "fairlane_queue_held_back_partitions", state="waiting") == 0
    assert value(found, "fairlane_queue_held_back_age_seconds") == pytest.approx(90, abs=30)


def test_a_scrape_says_how_far_the_store_is(served: ServedQueue) -> None:
    served.follower._next["unread"] = 0
    served.follower.step()
    found = scrape(served)
    assert found["fairlane_monitor_events"].samples[0].value >= 8
    assert value(found, "fairlane_monitor_lag_records") == 0
    assert value(found, "fairlane_monitor_caught_up") == 1
    assert value(found, "fairlane_monitor_stuck") == 0
    assert value(found, "fairlane_monitor_stored_tasks", state="failed") == 1
    assert value(found, "fairlane_monitor_written_timestamp_seconds") == pytest.approx(now_ms() / 1000, abs=60)
    assert 0 <= value(found, "fairlane_monitor_snapshot_age_seconds") < 60


def test_what_is_not_read_yet_is_the_lag_of_the_store(served: ServedQueue) -> None:
    written, follower = served.written, served.follower
    sent = [written.enqueue(written.task(f"more-{number}")) for number in range(20)]
    read = dict(follower._positions)
    served.refresh()
    # As if what was written were not read: the ends that Kafka has told stay.
    follower._positions |= {each: offset for each, offset in read.items() if each in {place[:2] for place in sent}}
    assert follower._count_unread() >= 20


def test_nobody_is_told_without_a_token(served: ServedQueue) -> None:
    assert served.client().get("/metrics").status_code == 401


def test_a_monitor_has_the_metrics_that_it_declares_and_no_other(served: ServedQueue) -> None:
    suffix = {"counter": "_total"}
    families = [each for each in scrape(served).values() if each.name.startswith("fairlane_")]
    assert {(each.name + suffix.get(each.type, ""), each.type) for each in families} == {
        (measure.name, measure.kind) for measure in measures.ALL
    }


def test_values_have_the_labels_that_are_declared(served: ServedQueue) -> None:
    for reading in served.serving.measured():
        assert all(len(key) == len(reading.measure.labels) for key in reading.values), reading
        assert all(key[0] == served.written.names.queue for key in reading.values), reading
