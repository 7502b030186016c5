"""What tracing costs a task, in microseconds: `.venv/bin/python bench/tracing_cost.py`. No Kafka is needed.

Method: the calls that a producer and a worker make for one task, many times over, best of several rounds, in three
worlds: no SDK, an SDK and a task that is not sampled, an SDK and one that is. "Thread" is the time of the thread that
sends or runs the task; "CPU" is that of the whole process and so has the export in it, as far as the bytes of OTLP.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from fairlane.topics import tracing
from fairlane.topics.ids import new_id
from fairlane.topics.otlp_exporter import Encoder
from fairlane.topics.task import Task

LANE: Final = "shop.p3"
SAMPLED: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED: Final = SAMPLED[:-2] + "00"
NEW: Final = Task(id=new_id(), type="send_email", payload=b"{}", value=b"{}", lane=LANE)
TRACED: Final = replace(NEW, traceparent=SAMPLED)
NOT_SAMPLED: Final = replace(NEW, traceparent=UNSAMPLED)
FAILURE: Final = ConnectionError("the bank hung up")
MANY: Final = 1_000_000


class Encoding(SpanExporter):
    """Makes the bytes that would be sent, as a worker's exporter does, and sends nothing."""

    def __init__(self) -> None:
        self._encoder = Encoder()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._encoder.encode(spans)
        return SpanExportResult.SUCCESS


class Cost(NamedTuple):
    """Of one task, microseconds."""

    thread_us: float
    cpu_us: float


def send(task: Task) -> None:
    _, span = tracing.start_send(task, LANE)
    tracing.end_send(span, partition=3, offset=42)


def run(task: Task, error: Exception | None = None) -> str:
    with tracing.process(task, topic=LANE, partition=3, offset=42, group="fairlane-shop", client_id="w1") as processing:
        if error is not None:
            processing.failed(error)
    return processing.traceparent


def settle(traceparents: Sequence[str]) -> None:
    tracing.end_commit(tracing.start_commit(traceparents, group="fairlane-shop"))


def cost(call: Callable[[], object], times: int, rounds: int, flush: Callable[[], object], per: int = 1) -> Cost:
    """The best of the rounds, since whatever else the machine does only adds."""
    found = []
    for _ in range(rounds):
        cpu, began = time.process_time(), time.thread_time()
        for _ in range(times):
            call()
        thread = time.thread_time() - began
        flush()
        found.append(Cost(thread / times / per * 1e6, (time.process_time() - cpu) / times / per * 1e6))
    return Cost(min(each.thread_us for each in found), min(each.cpu_us for each in found))


def in_a_span(flags: int, call: Callable[[], None]) -> Callable[[], None]:
    """The call in a span of the caller's, as in a web request."""
    span = NonRecordingSpan(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(flags)))
    context = trace.set_span_in_context(span)

    def within() -> None:
        token = otel.attach(context)
        call()
        otel.detach(token)

    return within


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5_000, help="tasks a round")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Encoding(), max_queue_size=MANY, max_export_batch_size=512))

    def show(what: str, world: str, call: Callable[[], object], per: int = 1) -> None:
        found = cost(call, max(1, options.times // per), options.rounds, provider.force_flush, per)
        print(f"{what:<18}{world:<12}{found.thread_us:>10.2f}{found.cpu_us:>10.2f}")

    print(f"{'of one task':<18}{'world':<12}{'thread µs':>10}{'CPU µs':>10}")
    show("send, any number", "no SDK", tracing.may_trace)
    show("run", "no SDK", lambda: run(NEW))
    show("run, with context", "no SDK", lambda: run(TRACED))
    show("settle, of 100", "no SDK", lambda: settle([""] * 100), per=100)
    trace.set_tracer_provider(provider)
    show("send", "unsampled", in_a_span(0, lambda: send(NEW)))
    show("run", "unsampled", lambda: run(NOT_SAMPLED))
    show("settle, of 100", "unsampled", lambda: settle([""] * 100), per=100)
    show("send", "sampled", in_a_span(1, lambda: send(NEW)))
    show("run", "sampled", lambda: run(TRACED))
    show("run, failing", "sampled", lambda: run(TRACED, FAILURE))
    show("settle, of 100", "sampled", lambda: settle([SAMPLED] * 100), per=100)
    provider.shutdown()


if __name__ == "__main__":
    main()
