"""A trace viewer of a few lines: takes what the demo's processes export by OTLP over HTTP, and keeps it in memory.

Invariant: it is reached from this machine only, and ends with its block.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

_PATH: Final = "/v1/traces"
_JOIN_S: Final = 5.0


@dataclass(frozen=True)
class Span:
    """A span as it was exported; ids are hexadecimal, times Unix nanoseconds.

    Attributes:
        links: span ids of what it links to.
        error: what its status says of an error, "" where there was none.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    attributes: dict[str, Any]
    error: str
    service: str
    start_ns: int
    end_ns: int


class SpanStore:
    """The spans that have arrived; any thread."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._lock = threading.Lock()

    def take(self, body: bytes) -> None:
        """Keep the spans of an export request."""
        request = ExportTraceServiceRequest.FromString(body)
        found = [
            _span(span, str(_values(of_resource.resource.attributes).get("service.name", "")))
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]
        with self._lock:
            self._spans += found

    @property
    def spans(self) -> Sequence[Span]:
        """Those of now, in the order of their arrival."""
        with self._lock:
            return tuple(self._spans)


def _values(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


def _span(span: ProtoSpan, service: str) -> Span:
    failed = span.status.code == Status.STATUS_CODE_ERROR
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple(link.span_id.hex() for link in span.links),
        attributes=_values(list(span.attributes)),
        error=(span.status.message or "failed") if failed else "",
        service=service,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
    )


@contextmanager
def receive_spans() -> Iterator[tuple[str, SpanStore]]:
    """A receiver on a free port of 127.0.0.1: its address for OTEL_EXPORTER_OTLP_ENDPOINT, and what it has taken."""
    store = SpanStore()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == _PATH:
                store.take(body)
            self.send_response(200 if self.path == _PATH else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names them
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="fairlane-demo-spans", daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", store
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_JOIN_S)
