"""`make bench`: figures of one interleaved run, medians of several repeats, as a table and as JSON.

Method: one real Kafka (KAFKA_BOOTSTRAP_SERVERS, else the embedded one) on the same cores as everything else. Every
repeat runs each subject once, one after the other, on topics of its own, so that noise of the machine hits all of them.
What is quoted are ratios of medians of the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import load
from report import Figure, write

from fairlane.kafka import EmbeddedKafka
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.connection import Connection
from fairlane.topics.names import QueueNames
from fairlane.topics.topology import Topology

HERE = Path(__file__).parent


@contextmanager
def kafka() -> Iterator[str]:
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        yield named
        return
    with EmbeddedKafka() as embedded:
        yield embedded.bootstrap


@contextmanager
def a_queue(bootstrap: str) -> Iterator[QueueNames]:
    names = QueueNames(f"bench-{uuid.uuid4().hex[:8]}")
    admin = TopicAdmin(Connection(bootstrap), timeout_s=60)
    topology = Topology.of(names, partitions=12)
    admin.create(topology)
    try:
        yield names
    finally:
        admin.delete(names)


def subject(script: str, *arguments: str) -> dict[str, float]:
    """Run one subject in a process of its own; its last line is JSON."""
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def throughput(bootstrap: str, tasks: int) -> dict[str, float]:
    """No-op tasks per second of one worker process, beside a raw consume-produce-commit loop on the same records."""
    rates = {}
    for name, script in (("raw", "raw_loop.py"), ("fairlane", "noop_worker.py")):
        with a_queue(bootstrap) as names:
            load.fill(bootstrap, names, tasks)
            rates[name] = subject(script, bootstrap, names.queue, str(tasks))["per_s"]
    return rates


def latency(bootstrap: str, tasks: int) -> dict[str, float]:
    """Enqueue to handler start on an idle queue."""
    with a_queue(bootstrap) as names:
        return subject("idle_latency.py", bootstrap, names.queue, str(tasks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller workloads, one repeat")
    parser.add_argument("--out", type=Path, default=HERE / "out")
    options = parser.parse_args()
    tasks, repeats, probes = (20_000, 1, 100) if options.quick else (100_000, 3, 500)
    raw: list[float] = []
    ours: list[float] = []
    waits: list[dict[str, float]] = []
    with kafka() as bootstrap:
        for repeat in range(repeats):
            rates = throughput(bootstrap, tasks)
            waits.append(latency(bootstrap, probes))
            raw.append(rates["raw"])
            ours.append(rates["fairlane"])
            print(f"repeat {repeat + 1} of {repeats}: {rates} {waits[-1]}", flush=True)
    figures = [
        Figure("noop_vs_raw", statistics.median(ours) / statistics.median(raw), "no-op tasks/s ÷ raw loop"),
        Figure("noop_per_s", statistics.median(ours), "no-op tasks/s, result and status stored", ours),
        Figure("raw_per_s", statistics.median(raw), "raw loop: consume, produce one record each, commit", raw),
        Figure("idle_p50_ms", statistics.median(each["p50_ms"] for each in waits), "enqueue to start, idle: p50, ms"),
        Figure("idle_p99_ms", statistics.median(each["p99_ms"] for each in waits), "enqueue to start, idle: p99, ms"),
    ]
    write(figures, options.out, scaled={"tasks": tasks} if options.quick else {})


if __name__ == "__main__":
    main()
