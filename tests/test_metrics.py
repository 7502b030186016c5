"""What Prometheus gets of a real worker: what ran, once each, in both formats, and nothing that is not in the docs."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from functools import partial

import pytest
from live_queue import wait_until
from prometheus_client import Counter
from prometheus_client import parser as text
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.samples import Sample
from records import TRACEPARENT
from span_recorder import Recorder, install
from working_queue import WorkingQueue, working_queue

from fairlane.consumer import measures
from fairlane.consumer.batches import BatchPolicy
from fairlane.consumer.pool import WorkerPool
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.signals import Reject

pytestmark = pytest.mark.kafka

OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
OF_A_HANDLER = Counter("test_mails_sent", "A metric of a handler's own.")


def scrape(pool: WorkerPool, accept: str = "") -> tuple[str, dict[str, Metric]]:
    """The media type and the families of a scrape."""
    worker = pool._worker
    assert worker is not None
    assert worker.vitals.port is not None
    connection = http.client.HTTPConnection("127.0.0.1", worker.vitals.port, timeout=60)
    connection.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    parse = openmetrics.text_string_to_metric_families if accept else text.text_string_to_metric_families
    return answer.getheader("Content-Type") or "", {family.name: family for family in parse(body)}


def samples(families: dict[str, Metric], name: str, **labels: str) -> list[Sample]:
    """Those of a name that have these labels."""
    return [
        sample
        for family in families.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    return sum(sample.value for sample in samples(families, name, **labels))


def is_zero(pool: WorkerPool, name: str) -> bool:
    return value(scrape(pool)[1], name) == 0


async def mail(to: str) -> None:
    OF_A_HANDLER.inc()


async def flaky() -> None:
    raise ConnectionError("mail server away")


def picky() -> None:
    raise Reject("no such address")


async def index(numbers: list[int]) -> None: ...


@pytest.fixture(scope="module")
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=2) as queue:
        yield queue


@pytest.fixture
def pool(queue: WorkingQueue, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerPool]:
    """A worker with a port for health, whose handlers have traces."""
    install(monkeypatch, Recorder())
    policies: dict[str, dict[str, object]] = {
        "flaky": {"retry": RetryPolicy(max_attempts=2, base_s=0.05, jitter=0)},
        "index": {"batch": BatchPolicy(max_size=3, max_wait_s=600)},
    }
    with queue.worker(mail, flaky, picky, index, policies=policies, health_port=0, no_handler_s=0) as pool:
        yield pool


def test_a_scrape_has_what_ran_once_each_in_both_formats(queue: WorkingQueue, pool: WorkerPool) -> None:
    sent = [queue.task("mail", b'{"to":"x"}', level=5, traceparent=TRACEPARENT.decode()) for _ in range(7)]
    sent += [queue.task("flaky", level=3), queue.task("picky", level=3), queue.task("who_knows", level=1)]
    sent.append(queue.task("mail", b'{"to":"x"}', level=1, expires_ms=time.time_ns() // 1_000_000 - 5))
    queue.send(*sent)
    queue.send_raw(queue.names.lane(3), b"no task")
    queue.flush()
    queue.wait_ended(len(sent) + 1)
    p5, p3, p1 = (queue.names.lane(level) for level in (5, 3, 1))
    wait_until(lambda: value(scrape(pool)[1], "fairlane_settled_outcomes_total") == 13, "13 outcomes settled")
    # An attempt is counted by the loop, which may be a moment behind the settler.
    wait_until(lambda: value(scrape(pool)[1], "fairlane_tasks_dead_lettered_total") == 5, "5 letters")
    plain, with_exemplars = scrape(pool), scrape(pool, OPEN_METRICS)
    assert plain[0].startswith("text/plain")
    assert with_exemplars[0].startswith("application/openmetrics-text")
    for _, found in (plain, with_exemplars):
        assert value(found, "fairlane_tasks_succeeded_total") == 7
        assert value(found, "fairlane_tasks_succeeded_total", task="mail", lane=p5) == 7
        assert value(found, "fairlane_tasks_retried_total", task="flaky", exception="ConnectionError", lane=p3) == 1
        assert value(found, "fairlane_tasks_failed_total", task="flaky", exception="ConnectionError", lane=p3) == 1
        assert value(found, "fairlane_tasks_failed_total", task="other", exception="NoHandler", lane=p1) == 1
        assert value(found, "fairlane_tasks_failed_total") == 2
        assert value(found, "fairlane_tasks_rejected_total", task="picky", lane=p3) == 1
        assert value(found, "fairlane_tasks_expired_total", task="mail", lane=p1) == 1
        letters = {s.labels["reason"]: s.value for s in samples(found, "fairlane_tasks_dead_lettered_total")}
        assert letters == {"max_attempts": 1, "no_handler": 1, "rejected": 1, "expired": 1, "malformed": 1}
        assert value(found, "fairlane_tasks_received_total", lane=p5) == 7
        assert value(found, "fairlane_tasks_received_total", lane="tiers") == 1
        assert value(found, "fairlane_task_duration_seconds_count", task="mail", lane=p5) == 7
        assert value(found, "fairlane_task_duration_seconds_bucket", task="mail", lane=p5, le="+Inf") == 7
        assert value(found, "fairlane_task_queue_wait_seconds_count") == 7 + 2 + 1
        assert value(found, "fairlane_settlements_total", end="committed") >= 1
        committed = value(found, "fairlane_settlement_duration_seconds_count")
        assert committed == value(found, "fairlane_settlements_total", end="committed")
        assert value(found, "fairlane_rebalances_total", event="assigned") >= 1
        assert value(found, "test_mails_sent_total") == OF_A_HANDLER._value.get()
        assert value(found, "process_resident_memory_bytes") > 0
    assert not any(sample.exemplar for family in plain[1].values() for sample in family.samples)
    traces = {
        sample.exemplar.labels["trace_id"]
        for sample in samples(with_exemplars[1], "fairlane_task_duration_seconds_bucket", task="mail")
        if sample.exemplar is not None
    }
    assert traces == {TRACEPARENT.decode().split("-")[1]}


def test_a_scrape_says_how_the_worker_is(queue: WorkingQueue, pool: WorkerPool) -> None:
    wait_until(lambda: value(scrape(pool)[1], "fairlane_worker_up") == 1, "it is up")
    wait_until(lambda: value(scrape(pool)[1], "fairlane_worker_partitions") == 2 * 11, "it has all partitions")
    found = scrape(pool)[1]
    assert value(found, "fairlane_worker_concurrency", queue=queue.names.queue) == 10
    assert len(samples(found, "fairlane_partition_map_fullness_ratio")) == 2 * 11
    for idle in (
        "fairlane_worker_tasks_active",
        "fairlane_worker_tasks_buffered",
        "fairlane_worker_tasks_delayed",
        "fairlane_worker_outcomes_unsettled",
        "fairlane_partition_unsettled_records",
        "fairlane_partition_map_fullness_ratio",
        "fairlane_child_processes",
        "fairlane_event_loop_blocked_total",
    ):
        assert samples(found, idle), idle
        wait_until(partial(is_zero, pool, idle), f"{idle} is 0")
    assert 0 <= value(found, "fairlane_worker_utilisation_ratio") <= 1
    assert 0 <= value(found, "fairlane_event_loop_lag_seconds") < 5
    assert samples(found, "fairlane_build_info")[0].labels.keys() == {
        "version",
        "python",
        "confluent_kafka",
        "librdkafka",
    }


def test_a_scrape_says_how_large_batches_are_and_what_waits_for_one(queue: WorkingQueue, pool: WorkerPool) -> None:
    tasks = [queue.task("index", b"%d" % number) for number in range(7)]
    queue.send(*tasks)
    wait_until(lambda: value(scrape(pool)[1], "fairlane_worker_tasks_gathered") == 1, "one to wait for company")
    wait_until(
        lambda: value(scrape(pool)[1], "fairlane_tasks_succeeded_total", task="index") == 6, "the others to be done"
    )
    _, found = scrape(pool)
    assert value(found, "fairlane_task_batch_size_count", task="index") == 2
    assert value(found, "fairlane_task_batch_size_sum", task="index") == 6
    assert value(found, "fairlane_task_batch_size_bucket", task="index", le="2") == 0


def test_a_worker_has_the_metrics_that_it_declares_and_no_other(pool: WorkerPool) -> None:
    families = [each for name, each in scrape(pool, OPEN_METRICS)[1].items() if name.startswith("fairlane_")]
    suffix = {"counter": "_total", "info": "_info"}
    assert {(each.name + suffix.get(each.type, ""), each.type) for each in families} == {
        (measure.name, measure.kind) for measure in measures.ALL
    }
