"""Readings for Prometheus: its text format, or OpenMetrics for a client that accepts it, which has exemplars.

Invariant: a page is what was read for it, and what the default registry of prometheus_client has: the process, and
whatever handlers count there themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.samples import Exemplar

from fairlane.topics.metrics.measure import Collect, Measure, Reading, Spread


def page(collect: Collect, accept: str) -> tuple[str, bytes]:
    """The media type and the page.

    Args:
        collect: reads what is measured.
        accept: media types that the client accepts.
    """
    encode, media_type = choose_encoder(accept)
    return media_type, encode(_Both(collect))


class _Both:
    """What is measured here and in the default registry, as one registry."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        yield from map(_family, self._collect())
        yield from REGISTRY.collect()


def _family(reading: Reading) -> Metric:
    measure = reading.measure
    if measure.kind == "info":
        (key,) = reading.values
        name = measure.name.removesuffix("_info")
        return InfoMetricFamily(name, measure.says, dict(zip(measure.labels, key, strict=True)))
    if measure.kind == "histogram":
        histogram = HistogramMetricFamily(measure.name, measure.says, labels=measure.labels)
        for key, spread in reading.spreads.items():
            histogram.add_metric(key, list(_buckets(measure, spread)), spread.sum)
        return histogram
    made = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    family = made(measure.name, measure.says, labels=measure.labels)
    for key, value in reading.values.items():
        family.add_metric(key, value)
    return family


def _buckets(measure: Measure, spread: Spread) -> Iterator[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Cumulative, as Prometheus has them, and each with the trace of one of its own if there is one."""
    bounds = [*map(str, measure.bounds), "+Inf"]
    for bucket, (bound, below) in enumerate(zip(bounds, accumulate(spread.counts), strict=True)):
        example = spread.examples.get(bucket)
        if example is None:
            yield bound, below
        else:
            about = {"trace_id": example.trace_id, "span_id": example.span_id}
            yield bound, below, Exemplar(about, example.value, example.at_s)
