"""What telling metrics costs, in milliseconds of CPU: `.venv/bin/python bench/metrics_cost.py`. No Kafka is needed.

Method: readings as a worker with 132 partitions has them, after ten types of tasks in five lanes; the best of many
rounds of each way of telling, sent nowhere. A task pays for none of it: what costs is how often somebody is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)

from fairlane.consumer import measures
from fairlane.topics.metrics.measure import Measure, Reading, Spread
from fairlane.topics.metrics.otlp import WithReadings
from fairlane.topics.metrics.page import page
from fairlane.topics.metrics.statsd import Statsd

ROUNDS: Final = 30
LANES: Final = [f"shop.p{level}" for level in range(1, 6)]
VALUES: Final = {
    "task": [f"type_{number}" for number in range(10)],
    "lane": LANES,
    "topic": [*LANES, *(f"shop.retry-{delay}" for delay in ("1s", "5s", "1m", "10m", "2h", "1d"))],
    "partition": [str(number) for number in range(12)],
}


def readings() -> Iterator[Reading]:
    """All that a worker measures."""
    for measure in measures.ALL:
        keys = list(product(*(VALUES.get(label, ["one"]) for label in measure.labels)))
        if measure.kind == "histogram":
            yield Reading(measure, {}, {key: _spread(measure) for key in keys})
        else:
            yield Reading(measure, dict.fromkeys(keys, 7.0))


def _spread(measure: Measure) -> Spread:
    return Spread([number % 3 for number in range(len(measure.bounds) + 1)], 12.5)


class Encoding(MetricExporter):
    """Makes the bytes that would be sent, and sends nothing."""

    def export(self, metrics_data: MetricsData, *_: Any, **_kwargs: Any) -> MetricExportResult:
        encode_metrics(metrics_data).SerializeToString()
        return MetricExportResult.SUCCESS

    def force_flush(self, _timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, *_: Any, **_kwargs: Any) -> None: ...


def cost_ms(tell: Callable[[], object]) -> float:
    """The least CPU that it took, milliseconds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.thread_time()
        tell()
        best = min(best, time.thread_time() - began)
    return best * 1000


def main() -> None:
    """Measure, and print a table."""
    found = list(readings())
    reader = InMemoryMetricReader()
    MeterProvider([reader], shutdown_on_exit=False).get_meter("bench").create_counter("one").add(1)
    data = reader.get_metrics_data()
    assert data is not None
    exporter = WithReadings(Encoding(), lambda: found)
    statsd = Statsd(lambda: found, "127.0.0.1", 9, "bench")
    ways: dict[str, Callable[[], object]] = {
        "a scrape, text": lambda: page(lambda: found, ""),
        "a scrape, OpenMetrics": lambda: page(lambda: found, "application/openmetrics-text;version=1.0.0"),
        "an export by OTLP": lambda: exporter.export(data),
        "a round of StatsD": statsd.tell,
    }
    series = sum(len(each.values) + len(each.spreads) for each in found)
    print(f"{series} values and histograms; CPU ms each time")
    for name, tell in ways.items():
        print(f"{name:24} {cost_ms(tell):6.1f}")


if __name__ == "__main__":
    main()
