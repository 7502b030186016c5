"""Data directories: made ready for a broker, and remembered as one cluster's.

Invariant: a directory is formatted once, for one cluster id and one number of brokers, and never again: formatting is
what would lose data.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fairlane.kafka.errors import BrokerDied, DataMismatch
from fairlane.kafka.jar_pins import KAFKA_VERSION
from fairlane.kafka.jars import Distribution
from fairlane.kafka.java import Java
from fairlane.kafka.locks import locked
from fairlane.kafka.properties import ClusterShape, Node, render, server_properties

_RECORD: Final = "cluster.json"
_FORMAT_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True)
class ClusterRecord:
    """What a data directory was made for: `cluster_id`, the number of `brokers` and the version that made it."""

    cluster_id: str
    brokers: int
    kafka_version: str = KAFKA_VERSION


def read_record(data_dir: Path) -> ClusterRecord | None:
    """The record in `data_dir`, None if it is no data directory yet.

    Raises:
        DataMismatch: the record cannot be read.
    """
    try:
        return ClusterRecord(**json.loads((data_dir / _RECORD).read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise DataMismatch(str(data_dir), f"{_RECORD} is damaged ({error})") from error


def prepare(shape: ClusterShape, distribution: Distribution, java: Java) -> ClusterRecord:
    """Makes `shape.data_dir` ready for the brokers of `shape`: formats what is new, leaves alone what is there.

    Raises:
        DataMismatch: it holds the data of another number of brokers, or something that is not ours.
        BrokerDied: Kafka's own formatting failed.
    """
    record = read_record(shape.data_dir)
    if record is None:
        if shape.data_dir.exists() and any(shape.data_dir.iterdir()):
            raise DataMismatch(
                str(shape.data_dir), "it is not empty and no data of fairlane's. Name an empty directory"
            )
        shape.data_dir.mkdir(parents=True, exist_ok=True)
        record = ClusterRecord(_random_id(), len(shape.nodes))
        # Written first: from here on the directory is known to be ours, however far formatting gets.
        (shape.data_dir / _RECORD).write_text(json.dumps(vars(record)) + "\n")
    elif record.brokers != len(shape.nodes):
        raise DataMismatch(
            str(shape.data_dir),
            f"it is that of {record.brokers} broker(s): use --brokers {record.brokers}, or another --name",
        )
    checkpoint = bootstrap_checkpoint(distribution, java)
    for node in shape.nodes:
        _format(shape, node, record, checkpoint)
        properties_path(shape, node).write_text(render(server_properties(shape, node)))
    return record


def properties_path(shape: ClusterShape, node: Node) -> Path:
    """Where the server properties of `node` are written."""
    return shape.data_dir / f"broker-{node.id}.properties"


def _format(shape: ClusterShape, node: Node, record: ClusterRecord, checkpoint: Path) -> None:
    """What StorageTool leaves in an empty log directory, without the 0.8 s of a JVM."""
    directory = shape.log_dir(node)
    meta = directory / "meta.properties"
    if meta.exists():
        return
    directory.mkdir(exist_ok=True)
    shutil.copyfile(checkpoint, directory / "bootstrap.checkpoint")
    # Last, because a broker takes a directory without it as unformatted.
    partial = directory / "meta.properties.partial"
    partial.write_text(f"version=1\ncluster.id={record.cluster_id}\nnode.id={node.id}\ndirectory.id={_random_id()}\n")
    partial.replace(meta)


def bootstrap_checkpoint(distribution: Distribution, java: Java) -> Path:
    """The feature levels that a new cluster starts with, as StorageTool writes them; they depend on the version only.

    Made by Kafka's own StorageTool the first time, and kept beside the jars.
    """
    kept = distribution.directory / "bootstrap.checkpoint"
    if kept.exists():
        return kept
    with locked(distribution.directory / "format.lock", _FORMAT_TIMEOUT_S):
        if kept.exists():
            return kept
        scratch = distribution.directory / "format"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        shape = ClusterShape((Node(1, 9092, 9093),), scratch)
        node = shape.nodes[0]
        properties_path(shape, node).write_text(render(server_properties(shape, node)))
        arguments = ["-t", _random_id(), "-c", str(properties_path(shape, node))]
        class_path = ":".join(str(path) for path in distribution.class_path)
        done = subprocess.run(
            [*_quick_java(java), "-cp", class_path, "kafka.tools.StorageTool", "format", *arguments],
            capture_output=True,
            text=True,
            timeout=_FORMAT_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise BrokerDied(node.id, done.returncode, str(scratch), (done.stdout + done.stderr).strip()[-2000:])
        (shape.log_dir(node) / "bootstrap.checkpoint").replace(kept)
        shutil.rmtree(scratch)
    return kept


def _quick_java(java: Java) -> list[str]:
    return [str(java.path), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dlog4j2.level=OFF"]


def _random_id() -> str:
    """A Kafka Uuid: base64 without padding. One that starts with '-' would be taken for an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
