"""The server properties of each broker of an embedded cluster.

Invariant: pure: the same cluster gives the same properties; a broker listens on loopback only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

HOST: Final = "127.0.0.1"

_QUICK: Final = {
    # A broker that was killed is replaced, and let in again, after this; the default is 9 s.
    "broker.session.timeout.ms": "5000",
    "broker.heartbeat.interval.ms": "1000",
    # A worker that was killed is noticed within seconds, as DESIGN's measurements assume.
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.min.session.timeout.ms": "5000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "1000",
    # The default scan of every 10 s is what a transaction of a dead worker would block its readers for.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # Each partition of an internal topic costs start-up time and file handles.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "1",
    # The default of 128 MB is a third of such a broker's memory, and cleans millions of keys at once.
    "log.cleaner.dedupe.buffer.size": "16777216",
    # A mistyped topic is an error, not a new topic.
    "auto.create.topics.enable": "false",
}


@dataclass(frozen=True)
class Node:
    """One broker, which is a controller as well.

    Attributes:
        id: of the broker.
        port: that clients use.
        controller_port: that the controllers use.
        ports: of the further listeners, in their order.
    """

    id: int
    port: int
    controller_port: int
    ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class Listener:
    """A further door of every broker, on a port of its own.

    Attributes:
        name: in capitals; the broker's properties of it begin with `listener.name.` and this name in small letters.
        protocol: Kafka's word for what is spoken there.
    """

    name: str
    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]


@dataclass(frozen=True)
class Extras:
    """What a cluster has beside what every one has: further listeners, and server properties of one's own."""

    listeners: tuple[Listener, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ClusterShape:
    """The brokers of a cluster, the directory that holds their data, and what is out of the ordinary about them."""

    nodes: tuple[Node, ...]
    data_dir: Path
    extras: Extras = Extras()

    @property
    def bootstrap(self) -> str:
        """`host:port` of every broker, comma-separated."""
        return ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def bootstrap_of(self, listener: str) -> str:
        """`host:port` of every broker at a further listener, comma-separated."""
        index = [each.name for each in self.extras.listeners].index(listener)
        return ",".join(f"{HOST}:{node.ports[index]}" for node in self.nodes)

    def log_dir(self, node: Node) -> Path:
        """Where `node` keeps its partitions."""
        return self.data_dir / f"broker-{node.id}"


def replication(brokers: int) -> tuple[int, int]:
    """Replication factor and min.insync.replicas for that many brokers: with three, one may die and nothing stops."""
    factor = min(brokers, 3)
    return factor, max(1, factor - 1)


def server_properties(shape: ClusterShape, node: Node) -> dict[str, str]:
    """The server properties of `node`.

    The controllers are named statically (`controller.quorum.voters`) and not in the metadata log, so that a cluster may
    start again on other ports than it was made with.
    """
    factor, min_isr = (str(number) for number in replication(len(shape.nodes)))
    voters = ",".join(f"{other.id}@{HOST}:{other.controller_port}" for other in shape.nodes)
    further = list(zip(shape.extras.listeners, node.ports, strict=True))
    clients = [f"PLAINTEXT://{HOST}:{node.port}", *(f"{each.name}://{HOST}:{port}" for each, port in further)]
    protocols = [
        "PLAINTEXT:PLAINTEXT",
        "CONTROLLER:PLAINTEXT",
        *(f"{each.name}:{each.protocol}" for each, _ in further),
    ]
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.id),
        "controller.quorum.voters": voters,
        "listeners": ",".join([*clients, f"CONTROLLER://{HOST}:{node.controller_port}"]),
        "advertised.listeners": ",".join(clients),
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": ",".join(protocols),
        "log.dirs": str(shape.log_dir(node)),
        "default.replication.factor": factor,
        "min.insync.replicas": min_isr,
        "offsets.topic.replication.factor": factor,
        "transaction.state.log.replication.factor": factor,
        "transaction.state.log.min.isr": min_isr,
        "share.coordinator.state.topic.replication.factor": factor,
        "share.coordinator.state.topic.min.isr": min_isr,
        **_QUICK,
        **shape.extras.properties,
    }


def render(properties: Mapping[str, str]) -> str:
    """The text of a Java properties file, which is Latin-1 with escapes."""
    return "".join(f"{name}={_escape(value)}\n" for name, value in properties.items())


def _escape(value: str) -> str:
    escaped = value.replace("\\", "\\\\")
    units = escaped.encode("utf-16-be")
    pairs = (int.from_bytes(units[index : index + 2], "big") for index in range(0, len(units), 2))
    return "".join(chr(unit) if 0x20 <= unit < 0x7F else f"\\u{unit:04x}" for unit in pairs)
