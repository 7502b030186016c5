"""An OpenTelemetry SDK in the test's own process, whose spans stay there."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanContext


class Recorder:
    """An SDK whose spans stay here."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.spans(name)
        return span


def install(monkeypatch: pytest.MonkeyPatch, recorder: Recorder) -> Recorder:
    # The API lets the provider be set once in a process; the tests need several.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", recorder.provider)
    return recorder


def as_text(context: SpanContext | None) -> str:
    """The traceparent of a span's context."""
    assert context is not None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def error_type(span: ReadableSpan) -> object:
    """The `error.type` of a span, None where it did not fail."""
    return (span.attributes or {}).get("error.type")
