"""Worker processes of a test: started as a user starts them, ended as the test says, never left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import environ
from pathlib import Path

from waiting import WAIT_S
from working_queue import WorkingQueue


class WorkerProcesses:
    """`fairlane worker` processes on one queue, by name.

    Args:
        queue: what they work on.
        app: source of the module that they run; `{queue}` in it is the queue's name.
        folder: where the module and the logs are.
    """

    def __init__(self, queue: WorkingQueue, app: str, folder: Path) -> None:
        (folder / "work_app.py").write_text(app.replace("{queue}", queue.names.queue))
        self.folder = folder
        self._url = f"kafka://{queue.bootstrap}/{queue.names.queue}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *options: str, env: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "fairlane", "worker", "work_app:app", "--queue-url", self._url, *options]
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, env={**environ, **(env or {})}
            )

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def wait(self, name: str, timeout_s: float = WAIT_S) -> int:
        return self._processes[name].wait(timeout_s)

    def runs(self, name: str) -> bool:
        return self._processes[name].poll() is None

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop_all(self) -> dict[str, int]:
        """End all that still run in good order; returns their exit codes."""
        running = [name for name in self._processes if self.runs(name)]
        for name in running:
            self.signal(name, signal.SIGTERM)
        return {name: self.wait(name) for name in running}

    def kill_all(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait(WAIT_S)


@contextmanager
def worker_processes(queue: WorkingQueue, app: str, folder: Path) -> Iterator[WorkerProcesses]:
    """Processes that are all gone afterwards."""
    processes = WorkerProcesses(queue, app, folder)
    try:
        yield processes
    finally:
        processes.kill_all()
