"""What is traced of a task's life, by which names, and that what is not sampled does not touch the SDK."""

from __future__ import annotations

import zlib

import pytest
from msgspec.structs import replace
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags
from records import BINARY, PAYLOAD, TRACEPARENT, read, read_from_tier, with_header, without
from span_recorder import Recorder, as_text, install

from fairlane.topics import spans, tracing, wire
from fairlane.topics.errors import UsageError
from fairlane.topics.task import Task
from fairlane.topics.tracing import Processing, process

SAMPLED = TRACEPARENT.decode()
UNSAMPLED = SAMPLED[:-2] + "02"
NEW = Task(id="1", type="send_email", payload=PAYLOAD, key=b"ada")


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return install(monkeypatch, Recorder())


@pytest.fixture
def no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)


def process_lane(task: Task) -> Processing:
    return process(task, topic="shop.p5", partition=7, offset=42, group="fairlane-shop")


def test_a_send_span_has_the_names_of_the_conventions_and_its_context_goes_with_the_task(sdk: Recorder) -> None:
    task, span = tracing.start_send(NEW, "shop.p3")
    tracing.end_send(span, partition=7, offset=42)
    sent = sdk.one("send shop.p3")
    assert sent.kind is SpanKind.PRODUCER
    assert dict(sent.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "shop.p3",
        "messaging.destination.partition.id": "7",
        "messaging.message.id": "1",
        "messaging.kafka.offset": 42,
        "messaging.kafka.message.key": "ada",
        "fairlane.task.type": "send_email",
        "fairlane.task.priority": 3,
    }
    assert task.traceparent == as_text(sent.context)
    assert ("traceparent", task.traceparent.encode()) in wire.encode(task)
    assert sent.instrumentation_scope is not None
    assert sent.instrumentation_scope.schema_url == spans.SCHEMA_URL


def test_a_send_that_failed_says_why(sdk: Recorder) -> None:
    _, span = tracing.start_send(NEW, "shop.p3")
    tracing.end_send(span, error=TimeoutError("no broker"))
    sent = sdk.one("send")
    assert (sent.status.status_code, (sent.attributes or {})["error.type"]) == (StatusCode.ERROR, "TimeoutError")


def test_a_send_is_a_child_of_the_span_that_is_current(sdk: Recorder) -> None:
    with sdk.provider.get_tracer("web").start_as_current_span("GET /") as request:
        _, span = tracing.start_send(NEW, "shop.p3")
    tracing.end_send(span)
    parent = sdk.one("send").parent
    assert as_text(parent) == as_text(request.get_span_context())


def test_a_task_that_has_a_traceparent_keeps_it(sdk: Recorder) -> None:
    task = replace(NEW, traceparent=SAMPLED)
    assert tracing.start_send(task, "shop.p3") == (task, None)


def test_what_is_written_later_is_created_and_not_sent(sdk: Recorder) -> None:
    task = tracing.create(NEW, "shop.p3")
    created = sdk.one("create shop.p3")
    assert (created.kind, task.traceparent) == (SpanKind.PRODUCER, as_text(created.context))
    said = created.attributes or {}
    assert (said["messaging.operation.name"], said["messaging.operation.type"]) == ("create", "create")


def test_a_record_that_is_sent_again_is_a_child_of_its_creation_and_keeps_its_context(sdk: Recorder) -> None:
    task = replace(read(), replays=1)
    tracing.end_send(tracing.start_resend(task, "shop.p5"), partition=3, offset=9)
    sent = sdk.one("send shop.p5")
    assert sent.kind is SpanKind.CLIENT
    assert as_text(sent.parent) == SAMPLED
    assert [as_text(link.context) for link in sent.links] == [SAMPLED]
    said = sent.attributes or {}
    assert (said["messaging.operation.type"], said["messaging.kafka.offset"]) == ("send", 9)
    assert said["fairlane.task.replays"] == 1


@pytest.mark.parametrize("traceparent", ["", UNSAMPLED])
def test_a_record_without_a_sampled_trace_is_sent_again_without_a_span(sdk: Recorder, traceparent: str) -> None:
    assert tracing.start_resend(replace(NEW, traceparent=traceparent), "shop.p5") is None


def test_without_an_sdk_nothing_is_sent_again_with_a_span(no_sdk: None) -> None:
    assert tracing.start_resend(replace(NEW, traceparent=SAMPLED), "shop.p5") is None


def test_one_look_tells_whether_tasks_that_are_sent_from_here_may_get_a_context(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    assert not tracing.may_trace()
    with process_lane(replace(NEW, traceparent=SAMPLED)):
        assert tracing.may_trace()
    token = otel.attach(trace.set_span_in_context(NonRecordingSpan(SpanContext(1, 2, is_remote=True))))
    assert tracing.may_trace()
    otel.detach(token)
    install(monkeypatch, Recorder())
    assert tracing.may_trace()


def test_an_error_of_python_or_fairlane_is_named_as_in_a_letter_and_any_other_in_full() -> None:
    assert spans.error_type(ValueError()) == "ValueError"
    assert spans.error_type(UsageError("no", "yes")) == "UsageError"
    assert spans.error_type(zlib.error()) == "zlib.error"


def test_a_process_span_is_a_child_of_the_send_and_links_to_it(sdk: Recorder) -> None:
    task = replace(read(), attempt=2)
    with process_lane(task) as processing:
        assert trace.get_current_span().get_span_context().trace_id == int(SAMPLED[3:35], 16)
    attempt = sdk.one("process shop.p5")
    assert attempt.kind is SpanKind.CONSUMER
    assert attempt.parent is not None
    assert as_text(attempt.parent) == SAMPLED
    assert [as_text(link.context) for link in attempt.links] == [SAMPLED]
    assert processing.traceparent == as_text(attempt.context)
    assert dict(attempt.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "shop.p5",
        "messaging.destination.partition.id": "7",
        "messaging.consumer.group.name": "fairlane-shop",
        "messaging.message.id": task.id,
        "messaging.kafka.offset": 42,
        "messaging.kafka.message.key": "ada",
        "fairlane.task.type": "send_email",
        "fairlane.task.priority": 5,
        "fairlane.task.attempt": 2,
    }


def test_an_error_that_leaves_the_attempt_is_recorded_once(sdk: Recorder) -> None:
    with pytest.raises(ValueError, match="boom"), process_lane(read()):
        raise ValueError("boom")
    attempt = sdk.one("process")
    assert (attempt.status.status_code, attempt.status.description) == (StatusCode.ERROR, "boom")
    assert (attempt.attributes or {})["error.type"] == "ValueError"
    assert [event.name for event in attempt.events] == ["exception"]


def test_an_error_that_was_caught_can_be_told(sdk: Recorder) -> None:
    with process_lane(read()) as processing:
        processing.failed(KeyError("x"))
    assert (sdk.one("process").attributes or {})["error.type"] == "KeyError"


def test_an_error_whose_text_cannot_be_made_is_recorded_all_the_same(sdk: Recorder) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(Broken), process_lane(read()):
        raise Broken
    assert sdk.one("process").status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("flags", ["01", "03", "0b"])
def test_sampled_is_one_bit_of_the_flags(flags: str) -> None:
    assert tracing.is_sampled(SAMPLED[:-2] + flags)


@pytest.mark.parametrize("traceparent", ["", UNSAMPLED, SAMPLED[:-2] + "00", SAMPLED[:-2] + "fe"])
def test_all_else_is_not_sampled(traceparent: str) -> None:
    assert not tracing.is_sampled(traceparent)


class Untouchable(TracerProvider):
    """An SDK in which starting a span is an error."""

    def get_tracer(self, *args: object, **kwargs: object) -> trace.Tracer:
        class Tracer(trace.NoOpTracer):
            pass

        class Touched:
            def start_span(self, *args: object, **kwargs: object) -> None:
                raise AssertionError("the SDK was touched")

        return Touched()  # type: ignore[return-value]


def test_an_unsampled_task_does_not_touch_the_sdk_and_what_it_sends_is_unsampled_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", Untouchable(shutdown_on_exit=False))
    task = read(with_header("traceparent", UNSAMPLED.encode()))
    with process_lane(task) as processing:
        child, span = tracing.start_send(NEW, "shop.p3")
        assert not trace.get_current_span().get_span_context().trace_flags.sampled
    assert (child.traceparent, span, processing.traceparent) == (UNSAMPLED, None, "")
    assert tracing.start_commit([processing.traceparent, UNSAMPLED, ""], group="g") is None


def test_without_an_sdk_the_context_is_passed_on_from_task_to_task(no_sdk: None) -> None:
    task = read((*BINARY, ("tracestate", b"a=1")))
    with process_lane(task) as processing:
        child, span = tracing.start_send(NEW, "shop.p3")
    assert (child.traceparent, child.tracestate, span, processing.traceparent) == (SAMPLED, "a=1", None, "")
    assert tracing.start_send(NEW, "shop.p3") == (NEW, None)


def test_without_an_sdk_a_context_that_somebody_else_set_is_passed_on(no_sdk: None) -> None:
    context = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
    token = otel.attach(trace.set_span_in_context(NonRecordingSpan(context)))
    task, _ = tracing.start_send(NEW, "shop.p3")
    otel.detach(token)
    assert task.traceparent == as_text(context)


def test_without_an_sdk_and_a_trace_nothing_is_made(no_sdk: None) -> None:
    assert process_lane(read(without("traceparent"))) is process_lane(NEW)


def test_the_shortcut_to_the_provider_still_exists_in_the_api() -> None:
    assert spans._IS_READABLE


def test_a_disabled_sdk_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    install(monkeypatch, Recorder())
    assert spans.tracer() is None


def test_a_task_without_a_trace_begins_one_and_its_next_attempts_are_in_it(sdk: Recorder) -> None:
    task = read(without("traceparent"))
    with process_lane(task) as processing:
        pass
    first = sdk.one("process")
    assert (first.parent, first.links) == (None, ())
    again = read_from_tier(wire.hop(replace(tracing.begun(task, processing.traceparent), attempt=2)))
    with process(again, topic="shop.retry-1m", partition=1, offset=3, group="fairlane-shop"):
        pass
    second = sdk.one("process shop.retry-1m")
    assert as_text(second.parent) == as_text(first.context)
    assert again.own_trace
    assert tracing.begun(again, processing.traceparent) is again


def test_a_trace_that_the_sampler_drops_at_its_beginning_stays_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = install(monkeypatch, Recorder(ParentBased(ALWAYS_OFF)))
    sent, span = tracing.start_send(NEW, "shop.p3")
    tracing.end_send(span)
    assert not tracing.is_sampled(sent.traceparent)
    with process_lane(replace(NEW, traceparent=sent.traceparent)) as processing:
        assert tracing.start_send(NEW, "shop.p3")[0].traceparent == sent.traceparent
    assert tracing.is_sampled(processing.traceparent) is False
    assert recorder.spans() == []


def test_a_commit_links_to_the_sampled_attempts_that_it_settles(sdk: Recorder) -> None:
    with process_lane(read()) as first, process_lane(read()) as second:
        pass
    span = tracing.start_commit([first.traceparent, "", second.traceparent, UNSAMPLED], group="fairlane-shop")
    tracing.end_commit(span)
    commit = sdk.one("commit")
    assert commit.name == "commit"
    assert commit.kind is SpanKind.CLIENT
    assert [as_text(link.context) for link in commit.links] == [first.traceparent, second.traceparent]
    assert as_text(commit.parent) == first.traceparent
    assert dict(commit.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "commit",
        "messaging.operation.type": "settle",
        "messaging.consumer.group.name": "fairlane-shop",
        "messaging.batch.message_count": 4,
    }


def test_a_commit_is_recorded_where_its_attempts_are_whatever_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = install(monkeypatch, Recorder(ParentBased(TraceIdRatioBased(0.0))))
    with process_lane(read()) as processing:
        pass
    tracing.end_commit(tracing.start_commit([processing.traceparent], group="g", topic="shop.p5"))
    assert [span.name for span in recorder.spans()] == ["process shop.p5", "commit shop.p5"]


def test_a_commit_has_a_bounded_number_of_links_and_says_how_much_it_settled(sdk: Recorder) -> None:
    tracing.end_commit(tracing.start_commit([SAMPLED] * 1_000, group="g"), RuntimeError("fenced"))
    commit = sdk.one("commit")
    assert len(commit.links) == 128
    assert (commit.attributes or {})["messaging.batch.message_count"] == 1_000
    assert commit.status.status_code is StatusCode.ERROR


def test_a_commit_of_nothing_sampled_is_no_span(sdk: Recorder) -> None:
    assert tracing.start_commit([], group="g") is None
    tracing.end_commit(None)
    assert sdk.spans() == []


class Broken(SpanProcessor):
    """A span processor of somebody's that fails whenever it is called, or only at the end of a span."""

    def __init__(self, *, at_start: bool) -> None:
        self._at_start = at_start

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self._at_start:
            raise RuntimeError("no start")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("no end")


@pytest.mark.parametrize("at_start", [True, False])
def test_a_span_processor_that_fails_fails_no_task(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at_start: bool
) -> None:
    recorder = install(monkeypatch, Recorder())
    recorder.provider.add_span_processor(Broken(at_start=at_start))
    sent, span = tracing.start_send(NEW, "shop.p3")
    tracing.end_send(span)
    assert (sent.traceparent == "") == at_start
    assert tracing.create(NEW, "shop.p3").id == NEW.id
    with process_lane(replace(NEW, traceparent=SAMPLED)):
        assert as_text(trace.get_current_span().get_span_context())[3:35] == SAMPLED[3:35]
    tracing.end_commit(tracing.start_commit([SAMPLED], group="g"))
    tracing.end_send(tracing.start_resend(replace(NEW, traceparent=SAMPLED), "shop.p3"))
    assert len([record for record in caplog.records if record.name == "fairlane.tracing"]) == 5
