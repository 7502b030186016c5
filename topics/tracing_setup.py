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
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from fairlane.topics.errors import UsageError
from fairlane.topics.otlp_exporter import OtlpExporter

DEFAULT_SERVICE_NAME: Final = "fairlane"
FLUSH_S: Final = 5.0
"""How long the end of a process waits for a collector, seconds."""

COMMAND_FLUSH_S: Final = 2.0
"""The same for a command that somebody waits for."""

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OTLP: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}

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
    if _env("OTEL_SDK_DISABLED").lower() == "true":
        return False
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return False
    exporters = [_exporter(name) for name in _exporter_names()]
    if not exporters:
        return False
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service_name}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
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


def _env(*names: str) -> str:
    return next((os.environ[name].strip() for name in names if os.environ.get(name, "").strip()), "")


def _exporter_names() -> list[str]:
    asked = _env("OTEL_TRACES_EXPORTER")
    if not asked:
        return ["otlp"] if _env(*_ENDPOINTS) else []
    return [name.strip() for name in asked.split(",") if name.strip() not in ("", "none")]


def _exporter(name: str) -> SpanExporter:
    if name == "otlp":
        protocol = _env(*_PROTOCOLS) or "http/protobuf"
        if protocol not in _OTLP:
            raise UsageError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}", f"Use one of {', '.join(sorted(_OTLP))}")
        name = _OTLP[protocol]
    if name == _OTLP["http/protobuf"]:
        return OtlpExporter()
    for entry_point in entry_points(group="opentelemetry_traces_exporter", name=name):
        made = entry_point.load()()
        assert isinstance(made, SpanExporter)
        return made
    package = "opentelemetry-exporter-" + name.replace("_", "-")
    raise UsageError(
        f"there is no exporter {name!r} for traces", f"Install {package}, or set OTEL_TRACES_EXPORTER to otlp or none"
    )
