"""No-op tasks: one fairlane worker process beside a raw loop, on the same records; and what tracing adds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import load
from sizes import Sizes
from stage import Measured, Stage

CONCURRENCY = 500
EXPORTED_ALL = {"OTEL_BSP_MAX_QUEUE_SIZE": "1000000"}
"""The SDK's queue of 2,048 spans would drop what comes faster than it exports, and that would cost nothing."""


def run(stage: Stage, sizes: Sizes) -> Measured:
    measured: Measured = {}
    with stage.queue() as names, backend(stage, {}) as tracing:
        load.fill(stage.connection, names, sizes.tasks)
        measured["raw_per_s"] = stage.subject("raw", names.queue, sizes.tasks)["per_s"]
        ours = stage.subject("drain", names.queue, "noop", sizes.tasks, CONCURRENCY, more=tracing)
        measured |= {"noop_per_s": ours["per_s"], "noop_cpu_us": ours["cpu_us"]}
    return measured | traced(stage, sizes)


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
