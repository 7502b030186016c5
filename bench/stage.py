"""What a run happens on: one Kafka, queues of its own for each measurement, and subjects in processes of their own.

Invariant: a subject is a fresh process that prints what it measured as its last line, JSON; nothing of one measurement
is there for the next, and nothing outlives the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fairlane.kafka import EmbeddedKafka
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.connection import Connection
from fairlane.topics.names import DEFAULT_LEVEL, QueueNames, Tier
from fairlane.topics.topology import Topology

Measured = dict[str, float]
"""Measurements by name; figures.py makes the figures of them."""

BENCH: Final = Path(__file__).resolve().parent
SMALL: Final = {"FAIRLANE_WEIGHTS": '{"3": 4}', "FAIRLANE_TIERS": '["1s"]'}
"""The environment of a subject that works on a small queue."""

ENDS_WITHIN_S: Final = 240.0
"""A subject that takes longer hangs, and fails the run."""


class SubjectFailed(Exception):
    """A subject ended with an error; its own words are on stderr."""


class Stage:
    """Where the subjects run.

    Args:
        bootstrap: of Kafka.
        broker_pid: process of the broker, for its CPU time; None if it is not ours.
        home: environments of the peers (environments.py).
    """

    def __init__(self, bootstrap: str, broker_pid: int | None, home: Path) -> None:
        self.bootstrap = bootstrap
        self.broker_pid = broker_pid
        self.home = home
        self.connection = Connection(bootstrap)
        self.missing: dict[str, str] = {}
        """Why a measurement could not be made, by its name."""

    def python_of(self, peer: str) -> Path:
        """The Python of a peer's environment."""
        return self.home / peer / "bin" / "python"

    def lacks(self, peer: str) -> str:
        """Why a peer cannot run; empty if it can."""
        return "" if self.python_of(peer).exists() else f"{peer} is not installed: `make bench` installs it"

    @contextmanager
    def queue(self, *, partitions: int = 12, small: bool = False) -> Iterator[QueueNames]:
        """A queue that nobody else uses, for one measurement; a small one has one lane, p3, and one tier (SMALL)."""
        names = QueueNames(f"bench-{uuid.uuid4().hex[:8]}")
        topology = Topology.of(names, partitions=partitions)
        if small:
            lanes = [lane for lane in names.default_lanes() if lane.level == DEFAULT_LEVEL]
            topology = Topology.of(names, lanes=lanes, tiers=[Tier.parse("1s")], partitions=partitions)
        admin = TopicAdmin(self.connection, timeout_s=60)
        admin.create(topology)
        try:
            yield names
        finally:
            admin.delete(names)

    def environment(self, queue: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Of a subject: fairlane finds Kafka, and Python finds the bench; nothing else of ours is importable."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRLANE_", "OTEL_"))}
        return inherited | {
            "FAIRLANE_QUEUE_URL": f"kafka://{self.bootstrap}/{queue}",
            "FAIRLANE_LOG_LEVEL": "warning",
            "PYTHONPATH": str(BENCH),
            "PYTHONSAFEPATH": "1",
            **(more or {}),
        }

    def subject(self, module: str, queue: str, *arguments: object, more: Mapping[str, str] | None = None) -> Measured:
        """Run one subject of ours to its end; returns what it measured."""
        command = [sys.executable, "-m", f"subjects.{module}", queue, *map(str, arguments)]
        return self.measure(command, self.environment(queue, more))

    def measure(self, command: list[str], environment: Mapping[str, str]) -> Measured:
        """Run any subject to its end; returns what it measured.

        Raises:
            SubjectFailed: it ended with an error, or not at all.
        """
        try:
            done = subprocess.run(
                command, env=dict(environment), stdout=subprocess.PIPE, text=True, timeout=ENDS_WITHIN_S, check=True
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise SubjectFailed(f"{' '.join(command)}: {error}") from error
        measured: Measured = json.loads(done.stdout.splitlines()[-1])
        return measured

    def start(
        self, module: str, queue: str, *arguments: object, more: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a subject of ours that works until its stdin ends, and speaks by lines on its stdout."""
        command = [sys.executable, "-m", f"subjects.{module}", queue, *map(str, arguments)]
        environment = self.environment(queue, more)
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )


@contextmanager
def stage(home: Path) -> Iterator[Stage]:
    """On the Kafka that KAFKA_BOOTSTRAP_SERVERS names, else on one of its own."""
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        yield Stage(named, None, home)
        return
    with EmbeddedKafka() as kafka:
        [broker] = kafka.cluster.brokers.values()
        yield Stage(kafka.bootstrap, broker.mark.pid if broker.mark else None, home)
