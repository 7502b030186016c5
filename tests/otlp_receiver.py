"""A trace backend in the test's own process: takes OTLP over HTTP and keeps the spans, links included."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as a backend sees it; ids are hexadecimal, links are pairs of trace and span id."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    is_error: bool
    events: tuple[str, ...]
    service: str
    state: str
    started_ns: int
    ended_ns: int

    @property
    def place(self) -> tuple[str, str]:
        """Trace and span id, as a link has them."""
        return self.trace_id, self.span_id


@dataclass
class OtlpReceiver:
    """What has arrived so far.

    Attributes:
        endpoint: for OTEL_EXPORTER_OTLP_ENDPOINT.
        spans: in the order of their arrival.
    """

    endpoint: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    _arrived: threading.Condition = field(default_factory=threading.Condition)

    def take(self, body: bytes) -> None:
        """Keep the spans of an export request."""
        request = ExportTraceServiceRequest.FromString(body)
        with self._arrived:
            for of_resource in request.resource_spans:
                service = _attributes(of_resource.resource.attributes).get("service.name", "")
                for of_scope in of_resource.scope_spans:
                    self.spans.extend(_span(span, service) for span in of_scope.spans)
            self._arrived.notify_all()

    def named(self, name: str) -> list[ReceivedSpan]:
        """Spans of this name."""
        return [span for span in self.spans if span.name == name]

    def wait_for(self, name: str, count: int = 1, timeout_s: float = 20) -> list[ReceivedSpan]:
        """Spans of this name, once there are that many."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self.named(name)) >= count, timeout_s)
        seen = sorted({span.name for span in self.spans})
        assert arrived, f"{len(self.named(name))} of {count} spans {name!r} arrived within {timeout_s} s; seen: {seen}"
        return self.named(name)


def _attributes(pairs: Any) -> dict[str, Any]:
    def value(pair: KeyValue) -> Any:
        return getattr(pair.value, pair.value.WhichOneof("value") or "string_value")

    return {pair.key: value(pair) for pair in pairs}


def _span(span: ProtoSpan, service: str) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_attributes(span.attributes),
        is_error=span.status.code == 2,
        events=tuple(event.name for event in span.events),
        service=service,
        state=span.trace_state,
        started_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
    )


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """A receiver on a free port of 127.0.0.1."""
    receiver = OtlpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                receiver.take(body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - the base class names it

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
