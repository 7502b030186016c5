"""Readings to a StatsD server, by Datadog's client: counts as what they gained, the rest as it is, every ten seconds.

Invariant: one thread reads and sends; nobody waits for it, and a server that is not there costs nothing but datagrams.
Labels are tags, as DogStatsD has them: without tags each value of each label would be a name of its own.

Source: StatsD's metric types; DogStatsD's datagram format, which statsd_exporter, Telegraf, Vector and Graphite (with
another way of writing it) take too. Of the clients on PyPI, Datadog's is the one that has tags and is released monthly.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from fairlane.topics.errors import FairlaneError, UsageError
from fairlane.topics.metrics.measure import PREFIX, Collect, Measure, Reading, Spread
from fairlane.topics.metrics.since import Since

try:
    from datadog.dogstatsd.base import DogStatsd
except ModuleNotFoundError as error:
    raise UsageError(
        f"metrics go to StatsD with {error.name}, which is not installed", "pip install 'fairlane[statsd]'"
    ) from error

_log = logging.getLogger("fairlane.metrics")

INTERVAL_S: Final = 10.0
"""How often StatsD's own server adds up."""

QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Statsd:
    """Sends readings until it is stopped.

    Args:
        collect: reads what is measured.
        host: of the server.
        port: UDP.
        instance: tells this process from others, as a tag.
    """

    def __init__(self, collect: Collect, host: str, port: int, instance: str) -> None:
        self._collect = collect
        self._since = Since()
        self._client = DogStatsd(
            host=host, port=port, namespace=PREFIX.rstrip("_"), constant_tags=[f"instance:{instance}"],
            disable_telemetry=True, disable_buffering=False, disable_aggregation=True, flush_interval=3_600,
            # A field that only Datadog's agent reads, and others stumble over.
            origin_detection_enabled=False,
        )  # fmt: skip
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fairlane-statsd", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Send once more; whether it was done in time."""
        self._stopped.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def tell(self) -> None:
        """Read, and send; what the thread does."""
        for reading in self._collect():
            self._send(self._since.gained(reading))
        self._client.flush()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopped.wait(INTERVAL_S)
            try:
                self.tell()
            except (FairlaneError, OSError, RuntimeError):
                # A store that does not answer, a dict that grew while it was read: the next one may do.
                _log.warning("metrics were not sent to StatsD", exc_info=True)
        self._client.close_socket()

    def _send(self, reading: Reading) -> None:
        measure = reading.measure
        for key, value in reading.values.items():
            if measure.kind != "counter":
                self._client.gauge(measure.short, value, _tags(measure, key))
            elif value:
                self._client.increment(measure.short, value, _tags(measure, key))
        for key, spread in reading.spreads.items():
            count = sum(spread.counts)
            if count:
                tags = _tags(measure, key)
                self._client.increment(f"{measure.short}.count", count, tags)
                self._client.increment(f"{measure.short}.sum", round(spread.sum, 3), tags)
                for name, share in QUANTILES.items():
                    self._client.gauge(f"{measure.short}.{name}", quantile(measure.bounds, spread, share), tags)


def quantile(bounds: Sequence[float], spread: Spread, share: float) -> float:
    """The value that a share of all is not above, as Prometheus' histogram_quantile has it: even within a bucket.

    Args:
        bounds: upper bounds of the buckets, but for the last.
        spread: at least one value.
        share: from 0 to 1.
    """
    wanted = share * sum(spread.counts)
    below = 0
    for bucket, upto in enumerate(accumulate(spread.counts)):
        if upto >= wanted and upto > below:
            if bucket == len(bounds):
                break
            lower = bounds[bucket - 1] if bucket else 0.0
            return lower + (bounds[bucket] - lower) * (wanted - below) / (upto - below)
        below = upto
    return bounds[-1]


def _tags(measure: Measure, key: Sequence[str]) -> list[str]:
    return [f"{name}:{value}" for name, value in zip(measure.labels, key, strict=True) if value]
