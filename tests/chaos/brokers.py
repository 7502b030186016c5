"""Three brokers behind a proxy: clients reach them through it, and they reach each other, as the storm does, directly.

Invariant: no broker is harmed while another one is down or behind, so that what was acknowledged is on one that lives.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata
from waiting import wait_until

from chaos.proxy import Proxy
from fairlane.kafka import processes
from fairlane.kafka.cluster import Cluster
from fairlane.kafka.ports import choose_nodes
from fairlane.kafka.properties import HOST, ClusterShape, Node, render
from fairlane.kafka.runtime import find_runtime
from fairlane.kafka.storage import prepare, properties_path

BROKERS: Final = 3
HEAP: Final = "-Xmx256m"
USER: Final = "chaos"
CLIENT: Final = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": USER,
    "sasl.password": USER,
}
"""What workers and producers connect with, by librdkafka's names."""
_LOGIN: Final = "org.apache.kafka.common.security.plain.PlainLoginModule"
_ASK_S: Final = 3.0


class ProxiedBrokers:
    """The brokers of a cluster that runs, each with its gate in the proxy.

    Args:
        cluster: of the brokers.
        proxy: in which the ports of `behind` have gates.
        behind: for each broker the port that the proxy connects to.
    """

    def __init__(self, cluster: Cluster, proxy: Proxy, behind: dict[int, int]) -> None:
        self._cluster = cluster
        self.proxy = proxy
        self.behind = behind
        self.direct = cluster.shape.bootstrap
        """For whoever watches: no fault of the network is on this way."""
        self.proxied = ",".join(f"{HOST}:{proxy.addresses[port]}" for port in behind.values())
        """For workers and producers."""
        self.admin = AdminClient({"bootstrap.servers": self.direct, "log_level": 0, "reconnect.backoff.max.ms": 500})

    @property
    def ids(self) -> list[int]:
        return list(self.behind)

    def kill(self, broker_id: int) -> None:
        self._cluster.kill(broker_id)

    def start(self) -> None:
        """Start what does not run, without waiting for it."""
        self._cluster.spawn()

    def freeze(self, broker_id: int) -> None:
        self._signal(broker_id, signal.SIGSTOP)

    def thaw(self, broker_id: int) -> None:
        self._signal(broker_id, signal.SIGCONT)

    def _signal(self, broker_id: int, number: signal.Signals) -> None:
        mark = self._cluster.brokers[broker_id].mark
        assert mark is not None, f"broker {broker_id} was never started"
        processes.send(mark, number)

    def metadata(self) -> ClusterMetadata | None:
        """What the cluster says of itself; None if it does not answer."""
        try:
            return self.admin.list_topics(timeout=_ASK_S)
        except KafkaException:
            return None

    def in_sync(self) -> bool:
        """Whether all are up and each has all it should have."""
        found = self.metadata()
        return (
            found is not None
            and len(found.brokers) == BROKERS
            and all(
                len(partition.isrs) == len(partition.replicas)
                for topic in found.topics.values()
                for partition in topic.partitions.values()
            )
        )

    def leader(self, topic: str, partition: int) -> int | None:
        """The id of the broker that leads a partition; None if nobody is known to."""
        found = self.metadata()
        if found is None or topic not in found.topics:
            return None
        known = found.topics[topic].partitions.get(partition)
        return known.leader if known is not None and known.leader in self.behind else None

    def partitions(self, topic: str) -> int:
        """How many a topic has; 0 if it is not known."""
        found = self.metadata()
        return len(found.topics[topic].partitions) if found is not None and topic in found.topics else 0


def _properties(node: Node, behind: int, through: int) -> dict[str, str]:
    listeners = f"PLAINTEXT://{HOST}:{node.port},CLIENTS://{HOST}:{behind},CONTROLLER://{HOST}:{node.controller_port}"
    return {
        "listeners": listeners,
        "advertised.listeners": f"PLAINTEXT://{HOST}:{node.port},CLIENTS://{HOST}:{through}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CLIENTS:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        # A topic can be closed for a while to clients, who have a name for that, and to nobody else.
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "true",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.clients.plain.sasl.jaas.config": f'{_LOGIN} required user_{USER}="{USER}";',
    }


@contextmanager
def proxied_brokers(data_dir: Path, group: int, say: Callable[[str], None]) -> Iterator[ProxiedBrokers]:
    """Three brokers in the process group `group`, on data in `data_dir`; gone afterwards."""
    runtime = find_runtime(os.environ, say)
    runtime = replace(runtime, flags=(*runtime.flags, HEAP))
    # Those of the second half are the ports behind the proxy.
    chosen = choose_nodes(2 * BROKERS, 0)
    shape = ClusterShape(chosen[:BROKERS], data_dir)
    behind = {node.id: other.port for node, other in zip(shape.nodes, chosen[BROKERS:], strict=True)}
    proxy = Proxy(list(behind.values()))
    proxy.start()
    cluster = Cluster(runtime, shape, process_group=group)
    try:
        prepare(shape, runtime.distribution, runtime.java)
        for node in shape.nodes:
            port = behind[node.id]
            # Of two lines for one property, Java takes the later one.
            with properties_path(shape, node).open("a") as file:
                file.write(render(_properties(node, port, proxy.addresses[port])))
        cluster.spawn()
        cluster.wait_until_ready()
        brokers = ProxiedBrokers(cluster, proxy, behind)
        wait_until(brokers.in_sync, "three brokers in sync", 30)
        yield brokers
    finally:
        cluster.stop(grace_s=0)
        proxy.stop()
