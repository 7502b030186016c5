"""W3C trace context: between the text on a record, the fields of a task and OpenTelemetry's own contexts.

Invariant: what a record says is passed on as it is. Its flags may be any byte, of which one bit is looked at; another
propagator (OTEL_PROPAGATORS) and baggage have their headers among the task's own, in both directions.

Source: W3C Trace Context, level 2.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from functools import lru_cache
from typing import Final

from msgspec.structs import replace
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceState

from fairlane.topics.task import Task

_logger = logging.getLogger("fairlane.tracing")

EMPTY: Final = otel.Context()

_W3C_FIELDS: Final = frozenset({"traceparent", "tracestate", "baggage"})
_ODD_DIGITS: Final = frozenset("13579bdf")
_NO_STATE: Final = TraceState()

_SPAN_KEY: Final = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, EMPTY)))

carried: ContextVar[tuple[str, str]] = ContextVar("fairlane.trace", default=("", ""))
"""Traceparent and tracestate of the task that runs here, where no SDK holds them."""


def is_sampled(traceparent: str) -> bool:
    """Whether the sampled bit is on. The flags may be 03, so it is one bit that is looked at."""
    return traceparent[54:55] in _ODD_DIGITS


def trace_id(traceparent: str) -> str:
    """The trace id of a traceparent, 32 hexadecimal digits; "" where there is none."""
    return traceparent[3:35]


def span_id(traceparent: str) -> str:
    """The span id of a traceparent, 16 hexadecimal digits; "" where there is none."""
    return traceparent[36:52]


def from_text(traceparent: str, tracestate: str = "") -> SpanContext:
    """The span context of a well-formed traceparent."""
    return SpanContext(
        int(traceparent[3:35], 16),
        int(traceparent[36:52], 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(traceparent[53:55], 16)),
        trace_state=TraceState.from_header([tracestate]) if tracestate else _NO_STATE,
    )


def to_text(context: SpanContext) -> str:
    """The traceparent of a span context."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def inject(task: Task, context: otel.Context) -> Task:
    """The task with the context in its fields, and in its headers what is neither traceparent nor tracestate."""
    propagator = propagate.get_global_textmap()
    if _fields(propagator) == _W3C_FIELDS:
        inner = trace.get_current_span(context).get_span_context()
        state = inner.trace_state.to_header() if inner.trace_state else ""
        if not baggage.get_all(context):
            return replace(task, traceparent=to_text(inner), tracestate=state)
    carrier: dict[str, str] = {}
    propagator.inject(carrier, context)
    traceparent, tracestate = carrier.pop("traceparent", ""), carrier.pop("tracestate", "")
    added = tuple((name, value.encode()) for name, value in carrier.items())
    return replace(task, traceparent=traceparent, tracestate=tracestate, headers=task.headers + added)


class CreationSpan(NonRecordingSpan):
    """The span in which a task was created. Its context is made of the text when somebody asks, which is rare.

    Args:
        traceparent: a well-formed one.
        tracestate: "" where there is none.
    """

    def __init__(self, traceparent: str, tracestate: str) -> None:
        self._traceparent = traceparent
        self._tracestate = tracestate
        self._made: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        """Its context."""
        if self._made is None:
            self._made = from_text(self._traceparent, self._tracestate)
        return self._made

    def __repr__(self) -> str:
        return f"NonRecordingSpan({self.get_span_context()!r})"


def extract(task: Task) -> otel.Context:
    """The context in which a task was created; one without a span where the task says none."""
    context = _created(task) if task.traceparent else EMPTY
    if _says_all(task):
        return context
    carrier = {name: value.decode("utf-8", "replace") for name, value in task.headers if value}
    try:
        return propagate.get_global_textmap().extract(carrier, context)
    except Exception:
        # Anybody can write headers, and they are no reason to refuse the work.
        _logger.exception("the trace context of task %s could not be read", task.id)
        return context


def extract_unsampled(task: Task) -> otel.Context | None:
    """The same for a task that is not sampled, for a look at its flags; None where it is, or where more is to be read.

    This is what every task costs in a process with an SDK that samples a few.
    """
    traceparent = task.traceparent
    if not traceparent or traceparent[54:55] in _ODD_DIGITS or not _says_all(task):
        return None
    return _created(task)


def _created(task: Task) -> otel.Context:
    # What `trace.set_span_in_context` makes, without its copies.
    return otel.Context({_SPAN_KEY: CreationSpan(task.traceparent, task.tracestate)})


def _says_all(task: Task) -> bool:
    """Whether the task's own fields are all that the propagator would find on its record."""
    if _fields(propagate.get_global_textmap()) != _W3C_FIELDS:
        return False
    return not task.headers or "baggage" not in dict(task.headers)


@lru_cache(maxsize=4)
def _fields(propagator: TextMapPropagator) -> frozenset[str]:
    """The headers of a propagator; a composite one collects them anew at each call."""
    return frozenset(propagator.fields)
