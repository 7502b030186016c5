"""Spans of a task's life, by the OpenTelemetry API and its messaging conventions: docs/tracing.md shows them.

Invariant: a task costs the SDK nothing unless it is sampled. The sampled bit of its traceparent is looked at first:
where it is off, or where no SDK is set, the context is passed on and no span is made. Every attempt is a child of the
context in which the task was created, so one trace holds the producer, all attempts, the tiers between and the DLQ.

Source: OpenTelemetry semantic conventions for messaging and Kafka, 1.44 (in development).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import Token
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self

from msgspec.structs import replace
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind

from fairlane.topics import spans
from fairlane.topics.task import Task
from fairlane.topics.trace_context import (
    EMPTY,
    carried,
    extract,
    extract_unsampled,
    from_text,
    inject,
    is_sampled,
    span_id,
    to_text,
    trace_id,
)

__all__ = [
    "UNTRACED",
    "Processing",
    "begun",
    "create",
    "end_commit",
    "end_send",
    "has_tracer",
    "is_sampled",
    "may_trace",
    "process",
    "process_batch",
    "span_id",
    "start_commit",
    "start_rerun",
    "start_resend",
    "start_send",
    "trace_id",
]

MAX_LINKS: Final = 128
"""Links of the span of a commit or a batch; the SDK's own limit by default (OTEL_SPAN_LINK_COUNT_LIMIT)."""


def has_tracer() -> bool:
    """Whether spans can be recorded here at all."""
    return spans.tracer() is not None


def may_trace() -> bool:
    """Whether a task that is sent from here may get a context: one look for many tasks."""
    return spans.tracer() is not None or bool(otel.get_current()) or bool(carried.get()[0])


def start_send(task: Task, topic: str) -> tuple[Task, Span | None]:
    """Begin to send a task: the task with the context to write into its headers, and the span to give to `end_send`.

    The span is a child of the current one, or of the task that runs here. A task that has a traceparent already keeps
    it, and no span is made: whoever put it there has one of his own.

    Of many tasks that are sent at once, each has a `send` span of its own, and there is none for all of them: each is
    a record of its own, in a partition of its own, that Kafka acknowledges or refuses on its own, at its own time. The
    conventions' other way (a `create` a message and one `send` that links to all of them) makes one span more, cannot
    say what became of which, and loses all links but 128.
    """
    return _begin("send", task, topic)


def create(task: Task, topic: str) -> Task:
    """The task with the context of a `create` span: one that is written later, or never, as its creator ends.

    What a handler enqueues through its context is written by the settlement of its attempt, if that succeeds. So
    there is no `send`, which would say that it was sent, but the `create` under the attempt and the attempt's commit.
    """
    task, span = _begin("create", task, topic)
    spans.end(span)
    return task


def start_rerun(task: Task, topic: str, old: Task) -> tuple[Task, Span | None]:
    """As `start_send`, of a task that runs an older one again: the span links to the context of that."""
    creation = trace.get_current_span(extract(old)).get_span_context()
    return _begin("send", task, topic, (Link(creation),) if creation.is_valid else ())


def _begin(operation: str, task: Task, topic: str, links: Sequence[Link] = ()) -> tuple[Task, Span | None]:
    if task.traceparent:
        return task, None
    used = spans.tracer()
    current = trace.get_current_span().get_span_context()
    if used is None or (current.is_valid and not current.trace_flags.sampled):
        if current.is_valid:
            return inject(task, otel.get_current()), None
        traceparent, tracestate = carried.get()
        return (replace(task, traceparent=traceparent, tracestate=tracestate), None) if traceparent else (task, None)
    attributes = spans.attributes(operation, operation, topic, task)
    span = spans.start(used, f"{operation} {topic}", None, SpanKind.PRODUCER, attributes, links)
    return (task, None) if span is None else (inject(task, trace.set_span_in_context(span)), span)


def start_resend(task: Task, topic: str) -> Span | None:
    """Begin to send a record once more as it is, the context in its headers included: a dead letter that is replayed.

    The span is a child of the context in which the task was created and links to it, as every attempt's. Its own is
    in no record, so it is no PRODUCER, by the conventions, but a CLIENT.

    Args:
        task: what the record says; its `headers` are all of the record's.
        topic: where it goes.

    Returns:
        The span to give to `end_send`; None where the task's trace is not sampled, or it has none.
    """
    used = spans.tracer()
    if used is None:
        return None
    parent = extract(task)
    creation = trace.get_current_span(parent).get_span_context()
    if not creation.is_valid or not creation.trace_flags.sampled:
        return None
    attributes = spans.attributes("send", "send", topic, task)
    return spans.start(used, f"send {topic}", parent, SpanKind.CLIENT, attributes, (Link(creation),))


def end_send(span: Span | None, *, partition: int = -1, offset: int = -1, error: BaseException | None = None) -> None:
    """Kafka has acknowledged the record, at this partition and offset, or has not, for this reason."""
    if span is None:
        return
    if partition >= 0:
        span.set_attribute("messaging.destination.partition.id", str(partition))
    if offset >= 0:
        span.set_attribute("messaging.kafka.offset", offset)
    if error is not None:
        spans.record_error(span, error)
    spans.end(span)


class Processing:
    """One attempt as a span, current while it runs: `with process(…) as processing:` around the handler.

    Attributes:
        traceparent: of the attempt's own span, for a commit to link to; "" where none is recorded.
    """

    __slots__ = ("_attached", "_carried", "_context", "_span", "traceparent")

    def __init__(self, span: Span | None, context: otel.Context | None, unheld: tuple[str, str] | None) -> None:
        self._span = span
        self._context = context
        self._carried: Any = unheld
        self._attached: Token[otel.Context] | None = None
        self.traceparent = to_text(span.get_span_context()) if span is not None else ""

    def __enter__(self) -> Self:
        if self._context is not None:
            self._attached = otel.attach(self._context)
        elif self._carried is not None:
            self._carried = carried.set(self._carried)
        return self

    def failed(self, error: BaseException) -> None:
        """Say what became of the attempt, for an error that does not come out of the `with` block."""
        if self._span is not None:
            spans.record_error(self._span, error)

    def happened(self, event: str) -> None:
        """Say what happened in the attempt that is no failure of it."""
        if self._span is not None:
            self._span.add_event(event)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Have it be the current one for a while, not for the whole attempt."""
        attached = otel.attach(self._context) if self._context is not None else None
        held = carried.set(self._carried) if attached is None and self._carried is not None else None
        try:
            yield
        finally:
            if attached is not None:
                otel.detach(attached)
            if held is not None:
                carried.reset(held)

    @property
    def context(self) -> SpanContext | None:
        """Of the attempt's own span; None where none is recorded."""
        return self._span.get_span_context() if self._span is not None and self._span.is_recording() else None

    def link(self, context: SpanContext | None) -> None:
        """Say what it belongs to besides its parent."""
        if self._span is not None and context is not None:
            self._span.add_link(context)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._attached is not None:
            otel.detach(self._attached)
        elif self._carried is not None:
            carried.reset(self._carried)
        self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """Say that the attempt is over, where it was no `with` block and so was current nowhere.

        Whatever is said after that says nothing more.
        """
        span = self._span
        if span is not None:
            self._span = None
            if error is not None:
                spans.record_error(span, error)
            spans.end(span)


UNTRACED: Final = Processing(None, None, None)
"""An attempt without a trace."""


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
    used = spans.tracer()
    if used is None:
        return Processing(None, None, (task.traceparent, task.tracestate)) if task.traceparent else UNTRACED
    unsampled = extract_unsampled(task)
    if unsampled is not None:
        return Processing(None, unsampled, None)
    parent, links = extract(task), None
    creation = trace.get_current_span(parent).get_span_context()
    if creation.is_valid:
        if not creation.trace_flags.sampled:
            return Processing(None, parent, None)
        links = (Link(creation),)
    attributes = spans.attributes("process", "process", topic, task)
    attributes["messaging.destination.partition.id"] = str(partition)
    attributes["messaging.kafka.offset"] = offset
    attributes["messaging.consumer.group.name"] = group
    attributes["fairlane.task.attempt"] = task.attempt
    if client_id:
        attributes["messaging.client.id"] = client_id
    span = spans.start(used, f"process {topic}", parent, SpanKind.CONSUMER, attributes, links)
    return Processing(span, parent if span is None else trace.set_span_in_context(span, parent), None)


def process_batch(
    attempts: Sequence[tuple[Task, Processing]], *, topic: str, group: str, client_id: str = ""
) -> Processing:
    """A call of a handler with several tasks, as a context manager: it is what is current while the handler runs.

    It is a child of the first recorded attempt, so that what the sampler decided for that one holds for it too. It
    links to the contexts in which its sampled tasks were created, 128 at most, and their attempts link to it.

    Args:
        attempts: the tasks, each with its attempt.
        topic: where they were read, if all of them in one.
        group: consumer group of the worker.
        client_id: of the worker's Kafka consumer.
    """
    recorded = [(task, attempt, own) for task, attempt in attempts if (own := attempt.context) is not None]
    used = spans.tracer()
    if used is None or not recorded:
        return UNTRACED
    said: dict[str, Any] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": group,
        "messaging.batch.message_count": len(attempts),
        "fairlane.task.type": recorded[0][0].type,
    }
    said |= {"messaging.destination.name": topic} if topic else {}
    said |= {"messaging.client.id": client_id} if client_id else {}
    links = [
        Link(from_text(task.traceparent, task.tracestate) if task.traceparent else own)
        for task, _, own in recorded[:MAX_LINKS]
    ]
    parent = trace.set_span_in_context(NonRecordingSpan(recorded[0][2]), EMPTY)
    name = f"process {topic}" if topic else "process"
    span = spans.start(used, name, parent, SpanKind.CONSUMER, said, links)
    if span is None:
        return UNTRACED
    for _, attempt, _ in recorded:
        attempt.link(span.get_span_context())
    return Processing(span, trace.set_span_in_context(span, parent), None)


def begun(task: Task, traceparent: str) -> Task:
    """The task with the trace that its attempt began, so that its next attempts continue it; else the task itself.

    Args:
        task: the task.
        traceparent: `Processing.traceparent` of the attempt.
    """
    if task.traceparent or not traceparent:
        return task
    return replace(task, traceparent=traceparent, own_trace=True)


def start_commit(traceparents: Sequence[str], *, group: str, topic: str = "") -> Span | None:
    """Begin a settlement: a span that links to the sampled attempts that it settles, to 128 of them at most.

    It is a child of the first of them, so that what the sampler decided for that one holds for its commit too.

    Args:
        traceparents: `Processing.traceparent` of each attempt that is settled; "" where there is none.
        group: consumer group whose offsets are committed.
        topic: where the records were read that are settled, if all of them in one.

    Returns:
        The span to give to `end_commit`; None where nothing that is settled is sampled.
    """
    used = spans.tracer()
    if used is None:
        return None
    sampled = [from_text(text) for text in islice(filter(is_sampled, traceparents), MAX_LINKS)]
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
    parent = trace.set_span_in_context(NonRecordingSpan(sampled[0]), EMPTY)
    links = [Link(context) for context in sampled]
    return spans.start(used, f"commit {topic}" if topic else "commit", parent, SpanKind.CLIENT, attributes, links)


def end_commit(span: Span | None, error: BaseException | None = None) -> None:
    """The settlement is committed, or aborted for this reason."""
    if span is not None:
        if error is not None:
            spans.record_error(span, error)
        spans.end(span)
