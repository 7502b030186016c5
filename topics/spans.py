"""Spans, begun and ended: by the tracer of whoever set an SDK, with the attributes of the messaging conventions.

Invariant: tracing never fails a task. What a sampler or a span processor of somebody's raises is logged, and the span
is left out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from fairlane.topics import exception_text
from fairlane.topics.task import Task

_logger = logging.getLogger("fairlane.tracing")

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
STATUS_MAX_CHARS: Final = 500
KEY_MAX_BYTES: Final = 1_024
"""Of a record's key, which may be as long as a record: spans are kept and sent in hundreds."""

_tracer_of: tuple[object, trace.Tracer | None] = (None, None)
_api: Final = vars(trace)
# The public getter reads os.environ at every call until a provider is set, which is half a microsecond of every task.
_IS_READABLE: Final = "_TRACER_PROVIDER" in _api and OTEL_PYTHON_TRACER_PROVIDER not in os.environ


def tracer() -> trace.Tracer | None:
    """The tracer of the SDK that is set; None where none is set, or where OTEL_SDK_DISABLED turns it off."""
    global _tracer_of
    provider = _api["_TRACER_PROVIDER"] if _IS_READABLE else trace.get_tracer_provider()
    if provider is None:
        return None
    known, found = _tracer_of
    if provider is not known:
        found = None
        if not isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
            made = provider.get_tracer("fairlane", version("fairlane"), schema_url=SCHEMA_URL)
            found = None if isinstance(made, trace.NoOpTracer) else made
        _tracer_of = (provider, found)
    return found


def start(
    used: trace.Tracer,
    name: str,
    parent: otel.Context | None,
    kind: SpanKind,
    said: dict[str, Any],
    links: Sequence[Link] | None = None,
) -> Span | None:
    """Begin a span; None where the SDK cannot."""
    try:
        return used.start_span(name, parent, kind, said, links)
    except Exception:
        _logger.exception("the span %r could not be begun", name)
        return None


def end(span: Span | None) -> None:
    """End a span, if there is one."""
    if span is not None:
        try:
            span.end()
        except Exception:
            _logger.exception("a span could not be ended")


def record_error(span: Span, error: BaseException) -> None:
    """Set the span's status and `error.type`, and add the exception, as OpenTelemetry's `record_exception` does.

    What it says is bounded, and can be turned off (`exception_text`).
    """
    name = error_type(error)
    span.set_attribute("error.type", name)
    said = {"exception.type": name}
    if exception_text.is_shown():
        said["exception.message"] = exception_text.message_of(error)
        said["exception.stacktrace"] = exception_text.trace_of(error)
    else:
        said["exception.stacktrace"] = exception_text.places_of(error)
    span.add_event("exception", said)
    span.set_status(Status(StatusCode.ERROR, said.get("exception.message", name)[:STATUS_MAX_CHARS]))


def error_type(error: BaseException) -> str:
    """The class's full name; of Python's own and of fairlane's the name alone, as in status events and dead letters."""
    kind = type(error)
    known = kind.__module__ == "builtins" or kind.__module__.startswith("fairlane.")
    return kind.__qualname__ if known else f"{kind.__module__}.{kind.__qualname__}"


def attributes(name: str, kind: str, topic: str, task: Task) -> dict[str, Any]:
    """What a span says of the operation and of its task."""
    said: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
        "messaging.message.id": task.id,
        "fairlane.task.type": task.type,
        "fairlane.task.priority": task.priority,
    }
    if task.replays:
        said["fairlane.task.replays"] = task.replays
    if task.key:
        said["messaging.kafka.message.key"] = task.key[:KEY_MAX_BYTES].decode("utf-8", "replace")
    return said
