"""Where the soak happens: a queue of its own, a pool of two workers, a producer, and somebody who takes their spans.

Invariant: each of them is a process of its own, started as a user starts it, and none is left when the block ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fairlane.kafka.guarded import guarded_group
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.connection import Connection
from fairlane.topics.names import QueueNames
from fairlane.topics.topology import Topology
from soak.processes import children

TESTS = Path(__file__).resolve().parent.parent
WORKERS = 2
STARTED_S = 60.0


@dataclass(frozen=True)
class Stage:
    """What runs.

    Attributes:
        connection: to Kafka.
        names: of the queue.
        pids: of supervisor, workers and producer, by name.
        acknowledged: the file that the producer writes.
    """

    connection: Connection
    names: QueueNames
    pids: Mapping[str, int]
    acknowledged: Path
    _supervisor: subprocess.Popen[bytes]
    _producer: subprocess.Popen[bytes]

    def stop_producer(self) -> int:
        """Have it enqueue no more; returns its exit code."""
        self._producer.send_signal(signal.SIGTERM)
        return self._producer.wait(60)

    def stop_workers(self) -> int:
        """End the pool in good order; returns its exit code."""
        self._supervisor.send_signal(signal.SIGTERM)
        return self._supervisor.wait(60)


@contextmanager
def stage(bootstrap: str, rate: float, delays_s: Sequence[float], folder: Path) -> Iterator[Stage]:
    """Make the queue, and start everything.

    Args:
        bootstrap: servers of a Kafka.
        rate: tasks a second.
        delays_s: of the delayed tasks.
        folder: for logs and the producer's file.

    Raises:
        RuntimeError: something does not start.
    """
    names = QueueNames(f"soak-{uuid.uuid4().hex[:6]}")
    admin = TopicAdmin(Connection(bootstrap), timeout_s=60)
    admin.create(Topology.of(names, partitions=4, replication=1))
    acknowledged = folder / "acknowledged"
    acknowledged.touch()
    with ExitStack() as ends:
        ends.callback(admin.delete, names)
        environ = _environment(bootstrap, names, ends.enter_context(_nobody_keeps_spans()))
        group = ends.enter_context(guarded_group([]))

        def start(name: str, *command: str) -> subprocess.Popen[bytes]:
            with (folder / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, *command],
                    cwd=folder,
                    env={**environ, "OTEL_SERVICE_NAME": name},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=group,
                )
            ends.callback(process.wait)
            ends.callback(process.kill)
            return process

        pool = start("workers", "-m", "fairlane", "worker", "soak.tasks:app", "--processes", str(WORKERS), "-w", "20")
        workers = _started(pool, folder / "workers.log")
        delays = ",".join(f"{delay_s:g}" for delay_s in delays_s)
        load = ["--rate", str(rate), "--delays", delays, "--acknowledged", str(acknowledged)]
        producer = start("producer", "-m", "soak.producer", *load)
        _wait(lambda: acknowledged.stat().st_size, "the producer", producer, folder / "producer.log")
        pids = {"supervisor": pool.pid, **workers, "producer": producer.pid}
        yield Stage(Connection(bootstrap), names, pids, acknowledged, pool, producer)


def _environment(bootstrap: str, names: QueueNames, spans: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRLANE_", "OTEL_"))}
    return {
        **kept,
        # The children of a worker import the tasks too.
        "PYTHONPATH": str(TESTS),
        "PYTHONUNBUFFERED": "1",
        "FAIRLANE_QUEUE_URL": f"kafka://{bootstrap}/{names.queue}",
        "SOAK_QUEUE": names.queue,
        "OTEL_EXPORTER_OTLP_ENDPOINT": spans,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def _started(pool: subprocess.Popen[bytes], log: Path) -> dict[str, int]:
    """The workers of a pool, once it has started all."""
    _wait(lambda: len(children().get(pool.pid, ())) == WORKERS, "the workers", pool, log)
    return {f"worker-{number}": pid for number, pid in enumerate(sorted(children()[pool.pid]))}


def _wait(condition: Callable[[], object], who: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTED_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{who} did not start:\n{log.read_text()}")
        time.sleep(0.02)


@contextmanager
def _nobody_keeps_spans() -> Iterator[str]:
    """Where spans may be sent: its address. They are read and forgotten."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names them
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="soak-spans", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
