"""No-op tasks: one fairlane worker process beside a raw loop and Parallel Consumer on the same records, and beside
the peers in Python; and what tracing adds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import load
import parallel_consumer
from sizes import Sizes
from stage import Measured, Stage

from fairlane.topics.names import QueueNames
from workloads import python_peers
from workloads.parallel_consumer import measure

CONCURRENCY = 500
JAVA_CONCURRENCY = 100
EXPORTED_ALL = {"OTEL_BSP_MAX_QUEUE_SIZE": "1000000"}
"""The SDK's queue of 2,048 spans would drop what comes faster than it exports, and that would cost nothing."""


def run(stage: Stage, sizes: Sizes) -> Measured:
    measured: Measured = {}
    with stage.queue() as names, backend(stage, {}) as tracing:
        load.fill(stage.connection, names, sizes.tasks)
        measured["raw_per_s"] = stage.subject("raw", names.queue, sizes.tasks)["per_s"]
        ours = stage.subject("drain", names.queue, "noop", sizes.tasks, CONCURRENCY, more=tracing)
        measured |= {"noop_per_s": ours["per_s"], "noop_cpu_us": ours["cpu_us"]}
        measured |= java(stage, names, sizes)
    return measured | traced(stage, sizes) | python_peers.run(stage, sizes)


def java(stage: Stage, names: QueueNames, sizes: Sizes) -> Measured:
    """Parallel Consumer on the same records, or on the first of them where it also produces."""
    if reason := parallel_consumer.missing(stage.home):
        stage.missing |= dict.fromkeys(("parallel_consumer_poll_per_s", "parallel_consumer_produce_per_s"), reason)
        return {}
    poll = measure(stage, names, "poll", sizes.tasks, concurrency=JAVA_CONCURRENCY)
    produce = measure(stage, names, "pollAndProduce", sizes.produce_and_poll, concurrency=JAVA_CONCURRENCY)
    return {"parallel_consumer_poll_per_s": poll["per_s"], "parallel_consumer_produce_per_s": produce["per_s"]}


def traced(stage: Stage, sizes: Sizes) -> Measured:
    """CPU of a task without an SDK, and with one that exports every span of it, to a backend that takes all."""
    spans: Measured = {}
    cpu_us: Measured = {}
    for name in ("plain", "sampled"):
        with stage.queue() as names:
            load.fill(stage.connection, names, sizes.traced, traceparent=load.SAMPLED)
            arguments = ("noop", sizes.traced, CONCURRENCY)
            if name == "plain":
                cpu_us[name] = stage.subject("drain", names.queue, *arguments)["cpu_us"]
                continue
            with backend(stage, spans) as tracing:
                cpu_us[name] = stage.subject("drain", names.queue, *arguments, more=tracing | EXPORTED_ALL)["cpu_us"]
    if spans["spans"] < sizes.traced:
        raise SystemExit(f"{sizes.traced} tasks were sampled, {spans['spans']} spans were exported")
    return {"plain_cpu_us": cpu_us["plain"], "sampled_cpu_us": cpu_us["sampled"]}


@contextmanager
def backend(stage: Stage, told: Measured) -> Iterator[dict[str, str]]:
    """A trace backend; gives the environment that exports to it, and tells at the end how many spans came."""
    with stage.start("spans", "") as sink:
        assert sink.stdout is not None
        try:
            port = int(sink.stdout.readline())
            yield {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        finally:
            output, _ = sink.communicate(timeout=20)
    told.update(json.loads(output.splitlines()[-1]))
