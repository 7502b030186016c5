"""The exporter's own encoder says what the official one says, and the official exporter takes over where it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from otlp_receiver import otlp_receiver
from properties import thorough
from span_recorder import Recorder

from fairlane.topics import otel_environment, otlp_exporter, tracing_setup
from fairlane.topics.otlp_exporter import Encoder, OtlpExporter

CONTEXT = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))
STATES = st.sampled_from([TraceState(), TraceState([("vendor", "1")])])
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.just(TraceFlags(1)),
    STATES,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = st.one_of(st.sampled_from([0, 1, True, False, "", "1"]), st.integers(-(2**63), 2**63 - 1), TEXT)
VALUES = st.one_of(SCALARS, SCALARS, st.floats(allow_nan=False), st.binary(max_size=4), st.tuples(TEXT, TEXT))
ATTRIBUTES = st.dictionaries(st.one_of(st.sampled_from(["a", "b"]), TEXT.filter(bool)), VALUES, max_size=6)
NANOSECONDS = st.integers(0, 2**63)
EVENTS = st.builds(Event, TEXT, st.dictionaries(TEXT.filter(bool), SCALARS, max_size=2), NANOSECONDS)
STATUSES = st.sampled_from([Status(), Status(), Status(StatusCode.OK), Status(StatusCode.ERROR, "no")])
SPANS = st.builds(
    ReadableSpan,
    name=TEXT,
    context=CONTEXTS,
    parent=st.none() | CONTEXTS,
    resource=st.sampled_from([Resource({"service.name": "a"}), Resource({"service.name": "b"}, "https://schema")])
    | st.builds(Resource, st.just({"service.name": "a"})),
    attributes=st.none() | ATTRIBUTES,
    events=st.lists(EVENTS, max_size=1),
    links=st.lists(st.builds(Link, CONTEXTS, st.none() | ATTRIBUTES), max_size=2),
    kind=st.sampled_from(SpanKind),
    status=STATUSES,
    start_time=NANOSECONDS,
    end_time=NANOSECONDS,
    instrumentation_scope=st.none() | st.builds(InstrumentationScope, st.sampled_from("xy"), st.none(), TEXT),
)


def in_order(request: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """With the attributes of each span by name: they have no order."""
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                said = sorted(span.attributes, key=lambda each: each.key)
                del span.attributes[:]
                span.attributes.extend(said)
    return request


def said(encoder: Encoder, spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    return in_order(ExportTraceServiceRequest.FromString(encoder.encode(spans)))


@thorough(60)
@given(st.lists(st.lists(SPANS, max_size=4), max_size=3))
def test_any_spans_are_said_as_the_official_encoder_says_them(batches: list[list[ReadableSpan]]) -> None:
    encoder = Encoder()
    for batch in batches:
        assert said(encoder, batch) == in_order(encode_spans(batch))


def test_what_the_sdk_records_is_said_as_the_official_encoder_says_it() -> None:
    recorder = Recorder()
    tracer = recorder.provider.get_tracer("t", "1", "https://schema")
    for number in range(3):
        with tracer.start_as_current_span("outer", attributes={"n": number, "yes": True, "f": 0.5}) as outer:
            tracer.start_span("inner", links=[Link(outer.get_span_context())], attributes={"n": str(number)}).end()
    assert said(Encoder(), recorder.spans()) == in_order(encode_spans(recorder.spans()))


def test_of_an_attribute_whose_values_vary_only_the_first_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_exporter, "MAX_NAMES", 2)
    encoder = Encoder()
    varied: list[dict[str, Any]] = [{"id": number, "lane": "p3", f"odd-{number}": "x"} for number in range(200)]
    spans = [ReadableSpan("s", CONTEXT, attributes=each, start_time=1, end_time=2) for each in varied]
    assert said(encoder, spans) == in_order(encode_spans(spans))
    assert {name: len(values) for (name, _), values in encoder._known.items()} == {"id": 64, "lane": 1}


def send(exporter: OtlpExporter, attributes: dict[str, Any]) -> SpanExportResult:
    return exporter.export([ReadableSpan("s", CONTEXT, attributes=attributes, start_time=1, end_time=2)])


def test_the_inner_seam_of_the_official_exporter_is_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        exporter = OtlpExporter()
        encoded: list[int] = []
        encode = exporter._encoder.encode

        def count(spans: Sequence[ReadableSpan]) -> bytes:
            encoded.append(len(spans))
            return encode(spans)

        monkeypatch.setattr(exporter._encoder, "encode", count)
        assert send(exporter, {"n": 1}) is SpanExportResult.SUCCESS
        assert encoded == [1]
        assert receiver.named("s")[0].attributes == {"n": 1}
        exporter.shutdown()  # type: ignore[no-untyped-call]
        assert send(exporter, {"n": 2}) is SpanExportResult.FAILURE
        assert encoded == [1]


def test_what_cannot_be_encoded_is_left_to_the_official_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        exporter = OtlpExporter()
        assert send(exporter, {"fine": 1, "too large for 64 bits": 2**70}) is SpanExportResult.SUCCESS
        exporter.shutdown()  # type: ignore[no-untyped-call]
        assert receiver.named("s")[0].attributes == {"fine": 1}


def test_what_a_collector_refuses_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    exporter = OtlpExporter()
    assert send(exporter, {}) is SpanExportResult.FAILURE
    exporter.shutdown()  # type: ignore[no-untyped-call]


def test_the_environment_chooses_it_for_otlp_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL", raising=False)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    assert type(tracing_setup._exporter(otel_environment.exporters("traces")[0])) is OtlpExporter
