"""Who is told of a process' metrics besides those who ask: an OTLP collector, a StatsD server, if any is set.

Invariant: where neither is set nothing is imported, started or read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from fairlane.topics import otel_environment
from fairlane.topics.metrics.address import address
from fairlane.topics.metrics.measure import Collect

FLUSH_S: Final = 3.0
"""How long the end of a process waits for each, seconds."""


@contextmanager
def told(collect: Collect, *, service_name: str, instance: str, statsd: str = "") -> Iterator[None]:
    """Tell of what is measured for as long as the block lasts, and once more at its end.

    Args:
        collect: reads what is measured.
        service_name: `service.name` by OTLP, where the environment gives none.
        instance: tells this process from others, to StatsD; by OTLP it has an id of its own.
        statsd: `host:port` of a StatsD server; "" is none.

    Raises:
        UsageError: an exporter or a client is not installed.
    """
    with ExitStack() as ends:
        if otel_environment.exporters("metrics"):
            from fairlane.topics.metrics import otlp

            export = otlp.configured(collect, service_name)
            if export is not None:
                ends.callback(export.stop, FLUSH_S)
        if statsd:
            from fairlane.topics.metrics.statsd import Statsd

            sender = Statsd(collect, *address(statsd), instance)
            sender.start()
            ends.callback(sender.stop, FLUSH_S)
        yield
