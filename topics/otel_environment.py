"""What the standard `OTEL_*` variables say, the same for traces and for metrics.

Invariant: it only reads the environment and what is installed; nothing is set here.

Source: OpenTelemetry's specification of environment variables, 1.50.
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import Any, Final, Literal

from opentelemetry.sdk.resources import SERVICE_NAME, Resource

from fairlane.topics.errors import UsageError

Signal = Literal["traces", "metrics"]

OTLP_HTTP: Final = "otlp_proto_http"
_OTLP: Final = {"http/protobuf": OTLP_HTTP, "grpc": "otlp_proto_grpc"}


def said(*names: str) -> str:
    """The first of these variables that is not empty, "" if there is none."""
    return next((os.environ[name].strip() for name in names if os.environ.get(name, "").strip()), "")


def is_disabled() -> bool:
    """Whether the SDK is turned off."""
    return said("OTEL_SDK_DISABLED").lower() == "true"


def exporters(signal: Signal) -> list[str]:
    """Names of the exporters that a signal has: those of its variable, else OTLP's if there is an endpoint for it.

    Raises:
        UsageError: there is no such protocol.
    """
    of = signal.upper()
    asked = said(f"OTEL_{of}_EXPORTER")
    if not asked and said(f"OTEL_EXPORTER_OTLP_{of}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        asked = "otlp"
    names = [name.strip() for name in asked.split(",") if name.strip() not in ("", "none")]
    return [_protocol(of) if name == "otlp" else name for name in names]


def load(signal: Signal, name: str) -> Any:
    """The exporter of a name, made.

    Raises:
        UsageError: none is installed.
    """
    for entry_point in entry_points(group=f"opentelemetry_{signal}_exporter", name=name):
        return entry_point.load()()
    package = "opentelemetry-exporter-" + name.replace("_", "-")
    raise UsageError(
        f"there is no exporter {name!r} for {signal}",
        f"Install {package}, or set OTEL_{signal.upper()}_EXPORTER to otlp or none",
    )


def resource(service_name: str) -> Resource:
    """What is said of this process; the SDK gives it an id of its own (`service.instance.id`).

    Args:
        service_name: `service.name` where neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES gives one.
    """
    found = Resource.create()
    unnamed = str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
    return found.merge(Resource({SERVICE_NAME: service_name})) if unnamed else found


def _protocol(of: str) -> str:
    protocol = said(f"OTEL_EXPORTER_OTLP_{of}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if protocol not in _OTLP:
        raise UsageError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}", f"Use one of {', '.join(sorted(_OTLP))}")
    return _OTLP[protocol]
