"""Spans of a task's life: `send`, `process` and `commit`, by the OpenTelemetry API and its messaging conventions.

Invariant: a task costs the SDK nothing unless it is sampled. The sampled bit of its traceparent is looked at first:
where it is off, or where no SDK is set, the context is passed on and no span is made. Every attempt is a child of the
context in which the task was created, so one trace holds the producer, all attempts, the tiers between and the DLQ.

Source: OpenTelemetry semantic conventions for messaging and Kafka, 1.44 (in development), W3C Trace Context.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextvars import ContextVar, Token
from functools import lru_cache
from importlib.metadata import version
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self

from msgspec.structs import replace
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel
from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceState

from fairlane.topics.task import Task

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
MAX_LINKS: Final = 128
"""Links of one commit span; the SDK's own limit by default (OTEL_SPAN_LINK_COUNT_LIMIT)."""

_W3C_FIELDS: Final = frozenset({"traceparent", "tracestate", "baggage"})
_ODD_DIGITS: Final = frozenset("13579bdf")
_NO_STATE: Final = TraceState()
_EMPTY: Final = otel.Context()

_carried: ContextVar[tuple[str, str]] = ContextVar("fairlane.trace", default=("", ""))
"""Traceparent and tracestate of the task that runs here, where no SDK holds them."""

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


def is_sampled(traceparent: str) -> bool:
    """Whether the sampled bit is on. The flags may be 03, so it is one bit that is looked at."""
    return traceparent[54:55] in _ODD_DIGITS


def trace_id(traceparent: str) -> str:
    """The trace id of a traceparent, 32 hexadecimal digits; "" where there is none."""
    return traceparent[3:35]


def _remote(traceparent: str, tracestate: str) -> SpanContext:
    """The span context of a well-formed traceparent."""
    return SpanContext(
        int(traceparent[3:35], 16),
        int(traceparent[36:52], 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(traceparent[53:55], 16)),
        trace_state=TraceState.from_header([tracestate]) if tracestate else _NO_STATE,
    )


def _text(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def start_send(task: Task, topic: str) -> tuple[Task, Span | None]:
    """Begin to send a task: the task with the context to write into its headers, and the span to give to `end_send`.

    The span is a child of the current one, or of the task that runs here. A task that has a traceparent already keeps
    it, and no span is made: whoever put it there has one of his own.
    """
    if task.traceparent:
        return task, None
    current = trace.get_current_span().get_span_context()
    used = tracer()
    if used is None or (current.is_valid and not current.trace_flags.sampled):
        if current.is_valid:
            return _inject(task, otel.get_current()), None
        traceparent, tracestate = _carried.get()
        return (replace(task, traceparent=traceparent, tracestate=tracestate), None) if traceparent else (task, None)
    attributes = _attributes("send", "send", topic, task)
    span = used.start_span(f"send {topic}", kind=SpanKind.PRODUCER, attributes=attributes)
    return _inject(task, trace.set_span_in_context(span)), span


def end_send(span: Span | None, *, partition: int = -1, offset: int = -1, error: BaseException | None = None) -> None:
    """Kafka has acknowledged the record, at this partition and offset, or has not, for this reason."""
    if span is None:
        return
    if partition >= 0:
        span.set_attribute("messaging.destination.partition.id", str(partition))
    if offset >= 0:
        span.set_attribute("messaging.kafka.offset", offset)
    if error is not None:
        record_error(span, error)
    span.end()


def _inject(task: Task, context: otel.Context) -> Task:
    """The task with the context in its fields, and in its headers what is neither traceparent nor tracestate."""
    propagator = propagate.get_global_textmap()
    if _fields(propagator) == _W3C_FIELDS:
        inner = trace.get_current_span(context).get_span_context()
        state = inner.trace_state.to_header() if inner.trace_state else ""
        if not baggage.get_all(context):
            return replace(task, traceparent=_text(inner), tracestate=state)
    carrier: dict[str, str] = {}
    propagator.inject(carrier, context)
    traceparent, tracestate = carrier.pop("traceparent", ""), carrier.pop("tracestate", "")
    added = tuple((name, value.encode()) for name, value in carrier.items())
    return replace(task, traceparent=traceparent, tracestate=tracestate, headers=task.headers + added)


class Processing:
    """One attempt as a span, current while it runs: `with process(…) as processing:` around the handler.

    Attributes:
        traceparent: of the attempt's own span, for a commit to link to; "" where none is recorded.
    """

    __slots__ = ("_attached", "_carried", "_context", "_span", "traceparent")

    def __init__(self, span: Span | None, context: otel.Context | None, carried: tuple[str, str] | None) -> None:
        self._span = span
        self._context = context
        self._carried: Any = carried
        self._attached: Token[otel.Context] | None = None
        self.traceparent = _text(span.get_span_context()) if span is not None else ""

    def __enter__(self) -> Self:
        if self._context is not None:
            self._attached = otel.attach(self._context)
        elif self._carried is not None:
            self._carried = _carried.set(self._carried)
        return self

    def failed(self, error: BaseException) -> None:
        """Say what became of the attempt, for an error that does not come out of the `with` block."""
        if self._span is not None:
            record_error(self._span, error)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._attached is not None:
            otel.detach(self._attached)
        elif self._carried is not None:
            _carried.reset(self._carried)
        if self._span is not None:
            if error is not None:
                record_error(self._span, error)
            self._span.end()


_UNTRACED: Final = Processing(None, None, None)


def process(task: Task, *, topic: str, partition: int, offset: int, group: str, client_id: str = "") -> Processing:
    """The attempt that is about to run, as a context manager; an error that leaves its block is recorded.

    Args:
        task: the task; its traceparent is the parent. Without one, the attempt begins a trace (see `begun`).
        topic: where its record was read.
        partition: its partition.
        offset: its offset.
        group: consumer group of the worker.
        client_id: of the worker's Kafka consumer.
    """
    used = tracer()
    traceparent = task.traceparent
    if used is None:
        return Processing(None, None, (traceparent, task.tracestate)) if traceparent else _UNTRACED
    parent, links = _EMPTY, None
    if traceparent:
        remote = _remote(traceparent, task.tracestate)
        parent = _extract_rest(task, trace.set_span_in_context(NonRecordingSpan(remote), _EMPTY))
    elif "traceparent" not in _fields(propagate.get_global_textmap()):
        parent = _extract_rest(task, _EMPTY)
    remote = trace.get_current_span(parent).get_span_context()
    if remote.is_valid:
        if not remote.trace_flags.sampled:
            return Processing(None, parent, None)
        links = (Link(remote),)
    attributes = _attributes("process", "process", topic, task)
    attributes["messaging.destination.partition.id"] = str(partition)
    attributes["messaging.kafka.offset"] = offset
    attributes["messaging.consumer.group.name"] = group
    attributes["fairlane.task.attempt"] = task.attempt
    if client_id:
        attributes["messaging.client.id"] = client_id
    span = used.start_span(f"process {topic}", parent, SpanKind.CONSUMER, attributes, links)
    return Processing(span, trace.set_span_in_context(span, parent), None)


def begun(task: Task, processing: Processing) -> Task:
    """The task with the trace that its attempt began, so that its next attempts continue it; else the task itself."""
    if task.traceparent or not processing.traceparent:
        return task
    return replace(task, traceparent=processing.traceparent, own_trace=True)


def start_commit(traceparents: Sequence[str], *, group: str, topic: str = "") -> Span | None:
    """Begin a settlement: a span that links to the sampled attempts that it settles, to 128 of them at most.

    It is a child of the first of them, so that what the sampler decided for that one holds for its commit too.

    Args:
        traceparents: `Processing.traceparent` of each attempt that is settled, or its task's; "" where there is none.
        group: consumer group whose offsets are committed.
        topic: the topic whose offsets are committed, where it is only one.

    Returns:
        The span to give to `end_commit`; None where nothing that is settled is sampled.
    """
    used = tracer()
    if used is None:
        return None
    sampled = [_remote(text, "") for text in islice(filter(is_sampled, traceparents), MAX_LINKS)]
    if not sampled:
        return None
    attributes: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "commit",
        "messaging.operation.type": "settle",
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": len(traceparents),
    }
    if topic:
        attributes["messaging.destination.name"] = topic
    parent = trace.set_span_in_context(NonRecordingSpan(sampled[0]), _EMPTY)
    links = [Link(context) for context in sampled]
    return used.start_span(f"commit {topic or group}", parent, SpanKind.CLIENT, attributes, links)


def end_commit(span: Span | None, error: BaseException | None = None) -> None:
    """The settlement is committed, or aborted for this reason."""
    if span is not None:
        if error is not None:
            record_error(span, error)
        span.end()


def record_error(span: Span, error: BaseException) -> None:
    """Set the span's status and `error.type`, and add the exception; one whose text cannot be made is recorded too."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    span.set_attribute("error.type", name)
    try:
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, str(error)[:500]))
    except Exception:  # noqa: BLE001 - a __str__ of the user's may do anything
        span.set_status(Status(StatusCode.ERROR, name))


def _attributes(name: str, kind: str, topic: str, task: Task) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": topic,
        "messaging.message.id": task.id,
        "fairlane.task.type": task.type,
        "fairlane.task.priority": task.priority,
    }
    if task.key:
        attributes["messaging.kafka.message.key"] = task.key.decode("utf-8", "replace")
    return attributes


@lru_cache(maxsize=4)
def _fields(propagator: TextMapPropagator) -> frozenset[str]:
    """The headers of a propagator; a composite one collects them anew at each call."""
    return frozenset(propagator.fields)


def _extract_rest(task: Task, context: otel.Context) -> otel.Context:
    """The context with what a record carries besides W3C trace context: baggage, or another propagator's headers."""
    propagator = propagate.get_global_textmap()
    if _fields(propagator) == _W3C_FIELDS and "baggage" not in dict(task.headers):
        return context
    carrier = {name: value.decode("utf-8", "replace") for name, value in task.headers if value}
    return propagator.extract(carrier, context)
