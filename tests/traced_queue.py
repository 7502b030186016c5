"""A queue with a traced worker on it, and the backend that all its processes export to.

Invariant: "no span" is only said after spans of something later have come: a worker exports in order.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Any

from live_queue import wait_until
from otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver
from worker_processes import WorkerProcesses, worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane.topics.events import StatusEvent
from fairlane.topics.ids import new_id


def new_traceparent(flags: str = "01") -> str:
    """A trace that somebody else began."""
    return f"00-{new_id().replace('-', '')}-00f067aa0ba902b7-{flags}"


@dataclass(frozen=True)
class TracedQueue:
    """A queue, one worker on it, and what all processes export to."""

    queue: WorkingQueue
    workers: WorkerProcesses
    backend: OtlpReceiver

    @property
    def environ(self) -> Mapping[str, str]:
        return environ | exporting_to(self.backend) | {"FAIRLANE_QUEUE_URL": self.url}

    @property
    def url(self) -> str:
        return f"kafka://{self.queue.bootstrap}/{self.queue.names.queue}"

    def python(self, code: str, *arguments: object, **env: str) -> str:
        """Run a program that exports, to its end; returns what it printed."""
        return self._run("-c", code, *map(str, arguments), **env)

    def fairlane(self, *arguments: str) -> str:
        """Run a command line that exports, to its end; returns what it printed."""
        return self._run("-m", "fairlane", *arguments)

    def _run(self, *arguments: str, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**self.environ, **env},
            cwd=self.workers.folder,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def end_of(self, task_id: str, state: str = "completed", count: int = 1) -> StatusEvent:
        """The status event of a task's end, once there are so many of them."""

        def found() -> list[StatusEvent]:
            return [event for event in self.queue.events(task_id) if event.state == state]

        wait_until(lambda: len(found()) >= count, f"{task_id} is {state}")
        return found()[count - 1]

    def spans_of(self, trace_id: str) -> list[ReceivedSpan]:
        """What has come of a trace so far, in the order of its beginning."""
        found = [span for span in list(self.backend.spans) if span.trace_id == trace_id]
        return sorted(found, key=lambda span: span.started_ns)

    def wait_trace(self, trace_id: str, spans: int) -> list[ReceivedSpan]:
        """A trace, once so many spans of it have come."""
        wait_until(lambda: len(self.spans_of(trace_id)) >= spans, f"{spans} spans of trace {trace_id}")
        return self.spans_of(trace_id)

    def wait_exported(self, marker: str) -> None:
        """Wait until all that the worker has recorded so far has come, by a task of the type `marker`."""
        traceparent = new_traceparent()
        self.queue.send(self.queue.task(marker, traceparent=traceparent))
        wait_until(lambda: self._is_settled(traceparent[3:35]), "the marker's commit")

    def _is_settled(self, trace_id: str) -> bool:
        """Whether a commit has come that links to the trace: the last span that is about it."""
        return any(
            linked == trace_id
            for span in list(self.backend.spans)
            if span.name.startswith("commit")
            for linked, _ in span.links
        )

    def logged(self, message: str) -> list[dict[str, Any]]:
        """Lines of the worker's log with this message."""
        lines = [json.loads(line) for line in self.workers.log("w1").splitlines()]
        return [line for line in lines if line["message"] == message]


def named(name: str, spans: list[ReceivedSpan]) -> list[ReceivedSpan]:
    """The spans of this name."""
    return [span for span in spans if span.name == name]


def commit_of(attempt: ReceivedSpan, spans: list[ReceivedSpan]) -> ReceivedSpan:
    """The one commit that links to an attempt."""
    (commit,) = [span for span in spans if span.name.startswith("commit") and attempt.place in span.links]
    return commit


def exporting_to(backend: OtlpReceiver) -> dict[str, str]:
    """The environment of a process that exports there."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": backend.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}


@contextmanager
def traced_queue(bootstrap: str, app: str, folder: Path) -> Iterator[TracedQueue]:
    """The queue with the worker `w1`, which runs the app, logs JSON and is the service `shop-worker`."""
    with (
        otlp_receiver() as backend,
        working_queue(bootstrap) as queue,
        worker_processes(queue, app, folder) as workers,
    ):
        env = {**exporting_to(backend), "OTEL_SERVICE_NAME": "shop-worker"}
        workers.start("w1", "--name", "w1", "--log-format", "json", env=env)
        yield TracedQueue(queue, workers, backend)
        assert workers.stop_all() == {"w1": 0}
