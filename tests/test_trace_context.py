"""What a record carries of a trace, read and written: baggage and other propagators' headers, in both directions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from records import PAYLOAD, read
from span_recorder import Recorder, as_text, install

from fairlane.topics import trace_context, tracing, wire
from fairlane.topics.task import Task
from fairlane.topics.tracing import Processing, process

NEW = Task(id="1", type="send_email", payload=PAYLOAD, key=b"ada")


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return install(monkeypatch, Recorder())


def process_lane(task: Task) -> Processing:
    return process(task, topic="shop.p5", partition=7, offset=42, group="fairlane-shop")


@pytest.mark.parametrize("flags", ["00", "01", "02", "03", "ff"])
def test_a_traceparent_is_the_same_after_a_way_through_a_span_context(flags: str) -> None:
    traceparent = f"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-{flags}"
    assert trace_context.to_text(trace_context.from_text(traceparent)) == traceparent
    assert trace_context.trace_id(traceparent) == "0af7651916cd43dd8448eb211c80319c"
    assert trace_context.span_id(traceparent) == "00f067aa0ba902b7"


def test_baggage_goes_with_the_task_and_comes_back_in_the_handler(sdk: Recorder) -> None:
    token = otel.attach(baggage.set_baggage("tenant", "7"))
    task, span = tracing.start_send(NEW, "shop.p3")
    otel.detach(token)
    tracing.end_send(span)
    headers = wire.encode(task)
    assert ("baggage", b"tenant=7") in headers
    with process_lane(read(headers)):
        assert baggage.get_baggage("tenant") == "7"
    assert baggage.get_baggage("tenant") is None
    assert as_text(sdk.one("process").parent) == task.traceparent


class Single(TextMapPropagator):
    """A propagator with a header of its own, as B3 has."""

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        (value,) = getter.get(carrier, "b3") or [""]
        if not value:
            return context or Context()
        trace_id, span_id, sampled = value.split("-")
        remote = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(sampled)))
        return trace.set_span_in_context(NonRecordingSpan(remote), context)

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        span = trace.get_current_span(context).get_span_context()
        setter.set(carrier, "b3", f"{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags.sampled)}")

    @property
    def fields(self) -> set[str]:
        return {"b3"}


@pytest.fixture
def b3() -> Iterator[None]:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Single())
    yield
    propagate.set_global_textmap(before)


def test_another_propagator_that_is_set_is_used_in_both_directions(sdk: Recorder, b3: None) -> None:
    task, span = tracing.start_send(NEW, "shop.p3")
    tracing.end_send(span)
    assert task.traceparent == ""
    assert [name for name, _ in task.headers] == ["b3"]
    with process_lane(read(wire.encode(task))):
        pass
    # The flags differ: this propagator has only the sampled bit.
    assert as_text(sdk.one("process").parent)[:-2] == as_text(sdk.one("send").context)[:-2]


def test_another_propagator_that_says_unsampled_makes_no_span(sdk: Recorder, b3: None) -> None:
    with process_lane(read([("ce_type", b"t"), ("b3", b"1-2-0")])):
        pass
    assert sdk.spans() == []


def test_a_task_that_is_not_sampled_is_the_remote_parent_of_what_its_handler_records(sdk: Recorder) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-02"
    with process_lane(replace(NEW, traceparent=traceparent, tracestate="a=1")):
        current = trace.get_current_span()
        sdk.provider.get_tracer("http").start_span("GET /").end()
        sent = tracing.create(NEW, "shop.p3")
    assert sdk.spans() == []
    found = current.get_span_context()
    assert (as_text(found), found.is_remote, found.trace_state.to_header()) == (traceparent, True, "a=1")
    assert (found.is_valid, current.is_recording()) == (True, False)
    assert repr(current) == repr(NonRecordingSpan(found))
    assert (sent.traceparent, sent.tracestate) == (traceparent, "a=1")


def test_baggage_comes_back_in_the_handler_of_a_task_that_is_not_sampled(sdk: Recorder) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00"
    with process_lane(replace(NEW, traceparent=traceparent, headers=(("baggage", b"tenant=7"),))):
        assert baggage.get_baggage("tenant") == "7"
        assert as_text(trace.get_current_span().get_span_context()) == traceparent
    assert sdk.spans() == []


def test_a_propagator_of_another_kind_is_asked_about_a_task_that_is_not_sampled(sdk: Recorder, b3: None) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00"
    with process_lane(replace(NEW, traceparent=traceparent, headers=(("b3", b"1-2-1"),))):
        pass
    assert as_text(sdk.one("process").parent) == f"00-{1:032x}-{2:016x}-01"


def test_headers_that_a_propagator_cannot_read_are_no_reason_to_refuse_the_work(sdk: Recorder, b3: None) -> None:
    with process_lane(read([("ce_type", b"t"), ("b3", b"no b3")])):
        pass
    assert sdk.one("process").parent is None
