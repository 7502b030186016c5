"""A compose file as it is, run as a project of its own: other names and ports than a stack that somebody has up.

Invariant: whatever a project has started (containers, networks, volumes) is called after it, so that `leftovers` can
say what is still there.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar
from uuid import uuid4

ROOT = Path(__file__).resolve().parent.parent

T = TypeVar("T")


def eventually(probe: Callable[[], T | None], what: str, within_s: float) -> T:
    """The first answer of `probe` that is neither None nor False.

    Raises:
        AssertionError: there was none within `within_s` seconds.
    """
    deadline = monotonic() + within_s
    while True:
        answer = probe()
        if answer is not None and answer is not False:
            return answer
        assert monotonic() < deadline, f"not within {within_s:g} s: {what}"
        sleep(0.25)


def free_ports(count: int) -> list[int]:
    """Ports that are free now and stay so: from below the range out of which a system serves its clients."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as server, contextlib.suppress(OSError):
            server.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports between 20000 and 32000")


class ComposeProject:
    """One `docker compose` project.

    Args:
        file: the compose file; its ports come from KAFKA_PORT and JAEGER_PORT.

    Attributes:
        name: of the project; containers are called after it.
        bootstrap: where its Kafka is reached from this machine.
        viewer: base URL of its trace viewer.
    """

    def __init__(self, file: Path = ROOT / "docker-compose.yml") -> None:
        self.name = f"fairlane-test-{uuid4().hex[:8]}"
        self._file = file
        kafka_port, jaeger_port = free_ports(2)
        self.bootstrap = f"127.0.0.1:{kafka_port}"
        self.viewer = f"http://127.0.0.1:{jaeger_port}"
        self._environ = {**os.environ, "KAFKA_PORT": str(kafka_port), "JAEGER_PORT": str(jaeger_port)}

    def compose(self, *arguments: str, timeout_s: float = 120) -> str:
        """Run `docker compose ARGUMENTS` and return what it printed; the logs of the project are in a failure."""
        command = ["docker", "compose", "-f", str(self._file), "-p", self.name, *arguments]
        done = subprocess.run(
            command, env=self._environ, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}\n{done.stderr}\n{self.logs()}")
        return done.stdout

    def logs(self) -> str:
        command = ["docker", "compose", "-f", str(self._file), "-p", self.name, "logs", "--no-color", "--tail", "60"]
        return subprocess.run(
            command, env=self._environ, capture_output=True, text=True, timeout=60, check=False
        ).stdout

    def containers(self, service: str, *, stopped: bool = False) -> list[dict[str, Any]]:
        """What `docker inspect` says of each container of a service."""
        found = self.compose("ps", "-q", *(["-a"] if stopped else []), service).split()
        if not found:
            return []
        inspected: list[dict[str, Any]] = json.loads(docker("inspect", *found))
        return inspected

    def traces(self, trace_id: str) -> list[str]:
        """Names of the spans that the viewer has of a trace; none if it has not heard of it."""
        try:
            with urllib.request.urlopen(f"{self.viewer}/api/traces/{trace_id}", timeout=5) as answer:
                found = json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return []
        # Jaeger's query API wraps traces in `data`; other OTLP viewers answer with the one trace.
        spans = [span for trace in found.get("data") or [found] for span in trace.get("spans", ())]
        return [span.get("operationName") or span.get("name", "") for span in spans]

    def leftovers(self) -> str:
        """What of the project still exists."""
        label = f"label=com.docker.compose.project={self.name}"
        return "".join(
            docker(*kind, "-q", "--filter", label) for kind in (("ps", "-a"), ("volume", "ls"), ("network", "ls"))
        )


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=True).stdout
