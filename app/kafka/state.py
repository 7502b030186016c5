"""The record of what runs under a name: one JSON file, written whole or not at all.

Invariant: a record names processes by pid and start mark, so a stale one can be read at any time and harms nobody.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fairlane.kafka.processes import ProcessMark, is_alive
from fairlane.kafka.properties import ClusterShape, Node

_VERSION = 1


@dataclass(frozen=True)
class NamedBroker:
    """One broker of a record: its node and its process."""

    node: Node
    mark: ProcessMark

    def is_alive(self) -> bool:
        """True while that very process runs."""
        return is_alive(self.mark)


@dataclass(frozen=True)
class NamedKafka:
    """What was started under `name`: its brokers, its data, and when (`started_ms`, Unix time)."""

    name: str
    kafka_version: str
    data_dir: Path
    started_ms: int
    brokers: tuple[NamedBroker, ...]

    @property
    def shape(self) -> ClusterShape:
        """The cluster as the brokers know it."""
        return ClusterShape(tuple(broker.node for broker in self.brokers), self.data_dir)

    @property
    def marks(self) -> dict[int, ProcessMark]:
        """Process of each broker by broker id."""
        return {broker.node.id: broker.mark for broker in self.brokers}

    def is_running(self) -> bool:
        """True if any of its brokers runs."""
        return any(broker.is_alive() for broker in self.brokers)


def write(path: Path, kafka: NamedKafka) -> None:
    """Writes the record; readers see the old one or the new one."""
    document = {
        "v": _VERSION,
        "name": kafka.name,
        "kafka_version": kafka.kafka_version,
        "data_dir": str(kafka.data_dir),
        "started_ms": kafka.started_ms,
        "brokers": [{**asdict(broker.node), **asdict(broker.mark)} for broker in kafka.brokers],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=2) + "\n")
    partial.replace(path)


def read(path: Path) -> NamedKafka | None:
    """The record at `path`; None if there is none that can be read, which is as good as nothing running."""
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        brokers = tuple(
            NamedBroker(
                Node(int(entry["id"]), int(entry["port"]), int(entry["controller_port"])),
                ProcessMark(int(entry["pid"]), str(entry["started"])),
            )
            for entry in document["brokers"]
        )
        return NamedKafka(
            document["name"], document["kafka_version"], Path(document["data_dir"]), document["started_ms"], brokers
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
