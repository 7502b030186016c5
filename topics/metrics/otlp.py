"""Readings by OTLP, where the standard `OTEL_*` variables ask for it, through the SDK's provider, reader and exporter.

Invariant: what is exported is what Prometheus would be told, by OpenTelemetry's names, once an interval. Counts and
histograms exist already, so they are not counted again by instruments of the SDK: they join what these have (those of
a handler, by the global provider) on the way to the exporter, as the specification has it for a MetricProducer.

    OTEL_EXPORTER_OTLP_ENDPOINT, …_METRICS_ENDPOINT    export by OTLP, HTTP unless OTEL_EXPORTER_OTLP_PROTOCOL is grpc
    OTEL_METRICS_EXPORTER                              otlp, console, none or any that is installed
    OTEL_METRIC_EXPORT_INTERVAL                        milliseconds; a minute by default
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE  cumulative or delta

Source: OpenTelemetry's metrics data model and semantic conventions for messaging 1.44; the Python SDK has no
MetricProducer (1.45), and no observable histogram is specified.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics import export as points
from opentelemetry.sdk.metrics.export import AggregationTemporality as Temporality
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from fairlane.topics import otel_environment
from fairlane.topics.errors import UsageError
from fairlane.topics.metrics.measure import Collect, Measure, Reading, Spread
from fairlane.topics.metrics.since import Since
from fairlane.topics.spans import SCHEMA_URL

_SCOPE: Final = InstrumentationScope("fairlane", version("fairlane"), SCHEMA_URL)


class Export:
    """Exports readings until it is stopped.

    Args:
        collect: reads what is measured.
        exporters: where to.
        service_name: `service.name` where the environment gives none.
    """

    def __init__(self, collect: Collect, exporters: Sequence[points.MetricExporter], service_name: str) -> None:
        readers = [points.PeriodicExportingMetricReader(WithReadings(each, collect)) for each in exporters]
        about = otel_environment.resource(service_name)
        self._provider = sdk.MeterProvider(readers, resource=about, shutdown_on_exit=False)
        began = time.monotonic()

        def uptime(_options: CallbackOptions) -> Iterable[Observation]:
            yield Observation(time.monotonic() - began)

        # A reader that has no instrument of its own exports nothing.
        self._provider.get_meter("fairlane").create_observable_gauge(
            "process.uptime", [uptime], "s", "The time the process has been running."
        )
        if not isinstance(metrics.get_meter_provider(), sdk.MeterProvider):
            metrics.set_meter_provider(self._provider)

    def stop(self, timeout_s: float) -> bool:
        """Export once more; whether it was done in time. A collector that does not answer is left."""
        ending = threading.Thread(target=self._provider.shutdown, name="fairlane-metrics-shutdown", daemon=True)
        ending.start()
        ending.join(timeout_s)
        return not ending.is_alive()


def configured(collect: Collect, service_name: str) -> Export | None:
    """What the environment asks for; None if it asks for nothing.

    Raises:
        UsageError: it names an exporter that is not installed, or that reads by itself.
    """
    if otel_environment.is_disabled():
        return None
    made = [(name, otel_environment.load("metrics", name)) for name in otel_environment.exporters("metrics")]
    for name, each in made:
        if not isinstance(each, points.MetricExporter):
            raise UsageError(
                f"OTEL_METRICS_EXPORTER is {name!r}, which does not export but is asked",
                "Leave it out: --health-port answers Prometheus at /metrics",
            )
    return Export(collect, [each for _, each in made], service_name) if made else None


class WithReadings(points.MetricExporter):
    """An exporter whose batches have the readings too.

    Args:
        inner: sends them.
        collect: reads what is measured.
    """

    def __init__(self, inner: points.MetricExporter, collect: Collect) -> None:
        preferred: dict[type, Temporality] = getattr(inner, "_preferred_temporality", None) or {}
        super().__init__(preferred, getattr(inner, "_preferred_aggregation", None))
        self._inner = inner
        self._collect = collect
        self._since = Since() if preferred.get(sdk.Counter) is Temporality.DELTA else None
        self._began_ns = time.time_ns()

    def export(
        self, metrics_data: points.MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> points.MetricExportResult:
        """Send what the SDK has, and the readings."""
        now_ns = time.time_ns()
        found = [self._metric(reading, now_ns) for reading in self._collect() if reading.values or reading.spreads]
        if self._since is not None:
            self._began_ns = now_ns
        first, *others = metrics_data.resource_metrics
        ours = points.ScopeMetrics(_SCOPE, found, SCHEMA_URL)
        both = replace(first, scope_metrics=[*first.scope_metrics, ours])
        return self._inner.export(points.MetricsData([both, *others]), timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """As the inner one does it."""
        return self._inner.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """As the inner one does it."""
        self._inner.shutdown(timeout_millis, **kwargs)

    def _metric(self, reading: Reading, now_ns: int) -> points.Metric:
        measure = reading.measure
        temporality = Temporality.CUMULATIVE
        if self._since is not None:
            reading, temporality = self._since.gained(reading), Temporality.DELTA
        numbers = _numbers(measure, reading.values, self._began_ns, now_ns)
        if measure.kind == "counter":
            data: points.DataT = points.Sum(numbers, temporality, is_monotonic=True)
        elif measure.kind == "histogram":
            spreads = [_spread(measure, *each, self._began_ns, now_ns) for each in reading.spreads.items()]
            data = points.Histogram(spreads, temporality)
        else:
            data = points.Gauge(numbers)
        return points.Metric(measure.otel, measure.says, measure.unit, data)


def _numbers(
    measure: Measure, values: Mapping[tuple[str, ...], float], began_ns: int, now_ns: int
) -> list[points.NumberDataPoint]:
    since_ns: Any = began_ns if measure.kind == "counter" else None
    return [
        points.NumberDataPoint(measure.attributes_of(key), since_ns, now_ns, value) for key, value in values.items()
    ]


def _spread(
    measure: Measure, key: tuple[str, ...], spread: Spread, began_ns: int, now_ns: int
) -> points.HistogramDataPoint:
    unknown: Any = None
    examples = [
        Exemplar({}, each.value, int(each.at_s * 1e9), int(each.span_id, 16), int(each.trace_id, 16))
        for each in spread.examples.values()
    ]
    counts = list(spread.counts)
    return points.HistogramDataPoint(
        measure.attributes_of(key), began_ns, now_ns, sum(counts), spread.sum, counts, measure.bounds,
        unknown, unknown, examples,
    )  # fmt: skip
