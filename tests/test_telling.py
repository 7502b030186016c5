"""Whoever is told of metrics is told the same: by OTLP over real HTTP, by StatsD over real UDP, by a scrape."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_queue import wait_until
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from otlp_receiver import OtlpReceiver, otlp_receiver
from statsd_server import StatsdServer, statsd_server
from worker_processes import worker_processes
from working_queue import working_queue

from fairlane.topics.errors import UsageError
from fairlane.topics.metrics.address import address
from fairlane.topics.metrics.measure import Example, Measure, Reading, Spread
from fairlane.topics.metrics.statsd import quantile
from fairlane.topics.metrics.telling import told

COUNT = Measure("fairlane_things_total", "counter", "{thing}", ("lane",), "things")
LEVEL = Measure("fairlane_thing_level_ratio", "gauge", "1", ("queue", "worker"), "how high it is")
TIMES = Measure(
    "fairlane_thing_duration_seconds", "histogram", "s", ("task", "lane"), "how long", bounds=(0.1, 1.0),
    convention="messaging.process.duration", attributes=(("messaging.system", "kafka"),),
)  # fmt: skip
EXAMPLE = Example("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 0.5, 1_700_000_000.25)


class Measured:
    """What a process measures, to be set by a test."""

    def __init__(self) -> None:
        self.things = 7
        self.took = [4, 2, 1]

    def collect(self) -> Iterator[Reading]:
        yield Reading(COUNT, {("shop.p3",): self.things})
        yield Reading(LEVEL, {("shop", "w1"): 0.25})
        yield Reading(TIMES, {}, {("mail", "shop.p3"): Spread(self.took, 12.5, {1: EXAMPLE})})


@pytest.fixture
def measured() -> Measured:
    return Measured()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    for name in ("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{receiver.endpoint}/v1/metrics")
        yield receiver


@pytest.fixture
def statsd() -> Iterator[StatsdServer]:
    with statsd_server() as server:
        yield server


def test_a_collector_is_told_by_the_names_of_the_conventions(receiver: OtlpReceiver, measured: Measured) -> None:
    with told(measured.collect, service_name="fairlane", instance="w1"):
        pass
    (export,) = receiver.metrics
    assert export.resource["service.name"] == "fairlane"
    assert export.resource["service.instance.id"], "processes of one service are told apart"
    assert export.points("process.uptime")
    ((about, point),) = export.points("fairlane.things")
    assert (about, point.as_int or point.as_double) == ({"messaging.destination.name": "shop.p3"}, 7)
    sums = export.metrics["fairlane.things"].sum
    assert sums.is_monotonic
    assert sums.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    ((about, point),) = export.points("fairlane.thing_level")
    assert (about, point.as_double) == ({"fairlane.queue": "shop", "messaging.client.id": "w1"}, 0.25)
    assert export.metrics["messaging.process.duration"].unit == "s"
    ((about, point),) = export.points("messaging.process.duration")
    assert about == {
        "messaging.system": "kafka", "messaging.destination.name": "shop.p3", "fairlane.task.type": "mail"
    }  # fmt: skip
    assert (point.count, point.sum, list(point.bucket_counts)) == (7, 12.5, [4, 2, 1])
    assert list(point.explicit_bounds) == [0.1, 1.0]
    (exemplar,) = point.exemplars
    assert (exemplar.trace_id.hex(), exemplar.span_id.hex()) == (EXAMPLE.trace_id, EXAMPLE.span_id)


def test_a_collector_that_wants_differences_is_told_what_was_gained(
    receiver: OtlpReceiver, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    with told(measured.collect, service_name="fairlane", instance="w1"):
        receiver.wait_for_metrics(lambda export: export.value("fairlane.things") == 7)
        measured.things, measured.took = 10, [4, 5, 1]
        receiver.wait_for_metrics(lambda export: export.value("fairlane.things") == 3)
    assert sum(export.value("fairlane.things") for export in receiver.metrics) == 10
    assert sum(export.value("messaging.process.duration") for export in receiver.metrics) == 10


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("OTEL_METRICS_EXPORTER", "carbon", "no exporter 'carbon' for metrics. Install opentelemetry-exporter-carbon"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "udp", "OTEL_EXPORTER_OTLP_PROTOCOL is 'udp'"),
    ],
)
def test_an_exporter_that_is_not_there_is_a_usage_error(
    receiver: OtlpReceiver, measured: Measured, monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=problem), told(measured.collect, service_name="f", instance="i"):
        pass


def test_a_process_that_tells_nobody_imports_nothing_for_it() -> None:
    code = """
import sys
from fairlane.topics.metrics.telling import told
with told(lambda: 1 / 0, service_name="f", instance="i"):
    print([name for name in ("opentelemetry.sdk.metrics", "datadog") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], env={}, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_statsd_is_told_what_was_gained_and_how_things_are(statsd: StatsdServer, measured: Measured) -> None:
    with told(measured.collect, service_name="f", instance="w1", statsd=statsd.address):
        pass
    statsd.wait_until(lambda: statsd.total("fairlane.thing_duration.count") == 7)
    found = {(each.name, each.type): each for each in statsd.sent}
    assert found["fairlane.things", "c"].value == 7
    assert found["fairlane.things", "c"].tags == {"instance": "w1", "lane": "shop.p3"}
    assert found["fairlane.thing_level", "g"].value == 0.25
    assert found["fairlane.thing_duration.sum", "c"].value == 12.5
    assert found["fairlane.thing_duration.p50", "g"].value == pytest.approx(0.0875)


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([4, 0, 0], 0.5, 0.05),
        ([0, 4, 0], 0.5, 0.55),
        ([2, 2, 0], 0.5, 0.1),
        ([1, 1, 8], 0.99, 1.0),
        ([0, 0, 3], 0.5, 1.0),
    ],
)
def test_a_quantile_is_found_evenly_within_its_bucket(counts: list[int], share: float, value: float) -> None:
    assert quantile((0.1, 1.0), Spread(counts, 1.0), share) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "place"),
    [("stats:91", ("stats", 91)), ("10.0.0.7", ("10.0.0.7", 8125)), ("[::1]:81", ("::1", 81)), ("[::]", ("::", 8125))],
)  # fmt: skip
def test_an_address_is_a_host_and_a_port(text: str, place: tuple[str, int]) -> None:
    assert address(text) == place


@pytest.mark.parametrize("text", ["", ":8125", "statsd:", "statsd:port", "statsd:0", "statsd:70000", "statsd:٣"])
def test_what_is_no_address_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match="Write host:port"):
        address(text)


APP = """
from fairlane import Fairlane, RetryPolicy

app = Fairlane("{queue}")

@app.task("mail")
async def mail() -> None: ...

@app.task("flaky", retry=RetryPolicy(max_attempts=1))
async def flaky() -> None:
    raise ConnectionError
"""


def _scraped(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.split(r"[{ ]", line)[0] == name)


@pytest.mark.kafka
def test_a_worker_tells_all_three_the_same(
    kafka: str, receiver: OtlpReceiver, statsd: StatsdServer, tmp_path: Path
) -> None:
    env = {"OTEL_METRIC_EXPORT_INTERVAL": "200", "FAIRLANE_STATSD": statsd.address}
    with working_queue(kafka, partitions=1) as queue, worker_processes(queue, APP, tmp_path) as workers:
        queue.send(*[queue.task("mail") for _ in range(20)], *[queue.task("flaky") for _ in range(3)])
        workers.start("a", "--health-port", "0", "--name", "w1", env=env)
        queue.flush()
        queue.wait_ended(23)
        wait_until(lambda: "metrics at /metrics" in workers.log("a"), "the worker says where it answers")
        port = int(workers.log("a").partition("health at http://127.0.0.1:")[2].partition("/")[0])
        wait_until(lambda: _scraped(port, "fairlane_settled_outcomes_total") == 23, "23 outcomes are settled")
        wait_until(lambda: _scraped(port, "fairlane_tasks_failed_total") == 3, "3 tasks are counted as failed")
        assert _scraped(port, "fairlane_tasks_succeeded_total") == 20
        workers.signal("a", signal.SIGTERM)
        assert workers.wait("a") == 0
        export = receiver.metrics[-1]
        assert export.value("fairlane.worker_concurrency", messaging_client_id="w1") == 10
        assert export.value("fairlane.tasks_succeeded", fairlane_task_type="mail") == 20
        assert export.value("fairlane.tasks_failed", error_type="ConnectionError") == 3
        assert export.value("messaging.process.duration") == 23
        assert export.value("messaging.client.consumed.messages") == 23
        statsd.wait_until(lambda: statsd.total("fairlane.task_duration.count") == 23)
        assert statsd.total("fairlane.tasks_succeeded", task="mail", instance="w1") == 20
        assert statsd.total("fairlane.tasks_failed", exception="ConnectionError") == 3
        statsd.wait_until(lambda: statsd.total("fairlane.worker_concurrency", worker="w1") == 10)


@pytest.mark.kafka
def test_the_processes_of_a_pool_are_targets_whose_sum_is_all_that_ran(kafka: str, tmp_path: Path) -> None:
    first, second = free_pair()
    with working_queue(kafka, partitions=2) as queue, worker_processes(queue, APP, tmp_path) as workers:
        workers.start("pool", "--processes", "2", "--health-port", str(first))
        wait_until(lambda: _held(first) > 0 and _held(second) > 0, "both have partitions", timeout_s=60)
        queue.send(*[queue.task("mail") for _ in range(40)])
        queue.flush()
        queue.wait_ended(40)
        names = ("fairlane_tasks_succeeded_total", "fairlane_settled_outcomes_total")
        for name in names:
            wait_until(lambda name=name: _scraped(first, name) + _scraped(second, name) == 40, f"40 in {name}")  # type: ignore[misc]
        assert workers.stop_all() == {"pool": 0}


def free_pair() -> tuple[int, int]:
    """Two ports that follow each other and are free."""
    for port in range(23_000, 32_000, 2):
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 1))
            return port, port + 1
    raise AssertionError("no free ports")


def _held(port: int) -> float:
    try:
        return _scraped(port, "fairlane_worker_partitions")
    except OSError:
        return 0
