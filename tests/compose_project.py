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
        file: the compose file; its ports come from KAFKA_PORT, MONITOR_PORT and the like.

    Attributes:
        name: of the project; containers are called after it.
        bootstrap: where its Kafka is reached from this machine.
        viewer: base URL of its trace viewer.
        monitor: of its monitor.
        prometheus: of its Prometheus; another version than the file's where only that is here.
    """

    def __init__(self, file: Path = ROOT / "docker-compose.yml") -> None:
        self.name = f"fairlane-test-{uuid4().hex[:8]}"
        self._file = file
        services = ("KAFKA", "JAEGER", "MONITOR", "PROMETHEUS")
        ports = dict(zip(services, map(str, free_ports(len(services))), strict=True))
        self.bootstrap = f"127.0.0.1:{ports['KAFKA']}"
        self.viewer, self.monitor, self.prometheus = (f"http://127.0.0.1:{ports[name]}" for name in services[1:])
        self._environ = {**os.environ, **{f"{name}_PORT": port for name, port in ports.items()}, **_prometheus_here()}

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

    def get(self, url: str, token: str = "") -> Any:
        """What a service of the project answers, as JSON; None if it does not."""
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        try:
            with urllib.request.urlopen(asked, timeout=5) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def traces(self, trace_id: str) -> list[str]:
        """Names of the spans that the viewer has of a trace; none if it has not heard of it."""
        found = self.get(f"{self.viewer}/api/traces/{trace_id}")
        if found is None:
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


def _prometheus_here() -> dict[str, str]:
    """Where the version of the file is not on this machine and another is, that one."""
    here = docker("images", "--format", "{{.Tag}}", "prom/prometheus").split()
    asked = os.environ.get("PROMETHEUS_TAG", "")
    return {"PROMETHEUS_TAG": here[0]} if here and not asked and not any(tag.startswith("v3") for tag in here) else {}


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=True).stdout
