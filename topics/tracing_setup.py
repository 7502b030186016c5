"""The OpenTelemetry SDK, set up by the standard `OTEL_*` variables for processes that fairlane starts itself.

Invariant: a provider that somebody has set already (the user's code, `opentelemetry-instrument`) is left alone, and
without one of the variables nothing is set: then a library stays a library, and spans cost nothing.

    OTEL_EXPORTER_OTLP_ENDPOINT, …_TRACES_ENDPOINT    export by OTLP, HTTP unless OTEL_EXPORTER_OTLP_PROTOCOL is grpc
    OTEL_TRACES_EXPORTER                              otlp, console, none or any that is installed
    OTEL_SDK_DISABLED                                 true turns it off
    OTEL_SERVICE_NAME                                 `fairlane` where nothing says it

All others (OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_…) are read by the SDK.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from fairlane.topics import otel_environment
from fairlane.topics.otlp_exporter import OtlpExporter

DEFAULT_SERVICE_NAME: Final = "fairlane"
FLUSH_S: Final = 5.0
"""How long the end of a process waits for a collector, seconds."""

COMMAND_FLUSH_S: Final = 2.0
"""The same for a command that somebody waits for."""

_ours: TracerProvider | None = None


def configure(service_name: str = DEFAULT_SERVICE_NAME) -> bool:
    """Set the SDK if the environment asks for it and nobody has set one.

    Args:
        service_name: `service.name` where neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES gives one.

    Returns:
        Whether it was set; `shutdown` then flushes it, at the latest when the process ends.

    Raises:
        UsageError: the environment names an exporter that is not installed.
    """
    global _ours
    if otel_environment.is_disabled():
        return False
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return False
    exporters = [_exporter(name) for name in otel_environment.exporters("traces")]
    if not exporters:
        return False
    provider = TracerProvider(resource=otel_environment.resource(service_name), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    _ours = provider
    atexit.register(shutdown)
    return True


@contextmanager
def exported(service_name: str) -> Iterator[None]:
    """`configure` and, whatever happens, `shutdown`: for a command that ends soon."""
    configure(service_name)
    try:
        yield
    finally:
        shutdown(COMMAND_FLUSH_S)


def shutdown(timeout_s: float = FLUSH_S) -> bool:
    """Export what is left, and stop; what a collector does not take within the time is given up.

    Returns:
        Whether all of it was exported in time; True also where there was nothing to do.
    """
    global _ours
    provider, _ours = _ours, None
    if provider is None:
        return True
    atexit.unregister(shutdown)
    # The SDK's own timeouts do not bound an export that is under way: a daemon thread can be left behind.
    ending = threading.Thread(target=provider.shutdown, name="fairlane-tracing-shutdown", daemon=True)
    ending.start()
    ending.join(timeout_s)
    return not ending.is_alive()


def _exporter(name: str) -> SpanExporter:
    if name == otel_environment.OTLP_HTTP:
        return OtlpExporter()
    made = otel_environment.load("traces", name)
    assert isinstance(made, SpanExporter)
    return made
