"""A backend in the test's own process: takes OTLP over HTTP and keeps the spans, links included, and the metrics."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from waiting import WAIT_S


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


@dataclass(frozen=True)
class ReceivedMetrics:
    """One export of metrics: of what resource, and the metrics by name."""

    resource: dict[str, Any]
    metrics: dict[str, Metric]

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Attributes and data points of a metric; none if it is not there."""
        metric = self.metrics.get(name, Metric())
        data = getattr(metric, metric.WhichOneof("data") or "gauge")
        return [(_attributes(point.attributes), point) for point in data.data_points]

    def value(self, name: str, **attributes: str) -> float:
        """The sum of the numbers, or of the counts, that have these attributes, with `_` for `.`."""
        wanted = {key.replace("_", "."): value for key, value in attributes.items()}
        found = [point for about, point in self.points(name) if wanted.items() <= about.items()]
        return sum(
            float(point.count if hasattr(point, "count") else point.as_double or point.as_int) for point in found
        )


@dataclass
class OtlpReceiver:
    """What has arrived so far.

    Attributes:
        endpoint: for OTEL_EXPORTER_OTLP_ENDPOINT.
        spans: in the order of their arrival.
        metrics: each export, in the order of their arrival.
        bodies: the requests that the spans came in.
    """

    endpoint: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    metrics: list[ReceivedMetrics] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    _arrived: threading.Condition = field(default_factory=threading.Condition)

    def take(self, body: bytes) -> None:
        """Keep the spans of an export request."""
        request = ExportTraceServiceRequest.FromString(body)
        with self._arrived:
            self.bodies.append(body)
            for of_resource in request.resource_spans:
                service = _attributes(of_resource.resource.attributes).get("service.name", "")
                for of_scope in of_resource.scope_spans:
                    self.spans.extend(_span(span, service) for span in of_scope.spans)
            self._arrived.notify_all()

    def take_metrics(self, body: bytes) -> None:
        """Keep the metrics of an export request."""
        request = ExportMetricsServiceRequest.FromString(body)
        with self._arrived:
            for of_resource in request.resource_metrics:
                found = {metric.name: metric for scope in of_resource.scope_metrics for metric in scope.metrics}
                self.metrics.append(ReceivedMetrics(_attributes(of_resource.resource.attributes), found))
            self._arrived.notify_all()

    def wait_for_metrics(self, wanted: Callable[[ReceivedMetrics], bool], timeout_s: float = 20) -> ReceivedMetrics:
        """The first export that is wanted."""
        with self._arrived:
            self._arrived.wait_for(lambda: any(map(wanted, self.metrics)), timeout_s)
            found = next(filter(wanted, self.metrics), None)
        assert found is not None, f"none of {len(self.metrics)} exports is wanted: {self.metrics[-1:]}"
        return found

    def named(self, name: str) -> list[ReceivedSpan]:
        """Spans of this name."""
        return [span for span in self.spans if span.name == name]

    def wait_for(self, name: str, count: int = 1, timeout_s: float = WAIT_S) -> list[ReceivedSpan]:
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
            take = {"/v1/traces": receiver.take, "/v1/metrics": receiver.take_metrics}.get(self.path)
            if take is not None:
                take(body)
            self.send_response(404 if take is None else 200)
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
        thread.join(60)
