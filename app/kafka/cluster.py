"""A cluster of brokers on this machine: started, watched, broken on purpose and stopped as one.

Invariant: when `start` raises, nothing that it started still runs.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from fairlane.kafka.broker import Broker, Runtime, end_brokers
from fairlane.kafka.errors import BrokerDied, BrokerSilent
from fairlane.kafka.places import writing
from fairlane.kafka.ports import choose_nodes
from fairlane.kafka.processes import ProcessMark
from fairlane.kafka.properties import ClusterShape, Extras
from fairlane.kafka.storage import prepare
from fairlane.topics.errors import UsageError

READY_TIMEOUT_S: Final = 60.0
STOP_GRACE_S: Final = 15.0
_ATTEMPTS: Final = 3
_IN_USE: Final = ("Address already in use", "BindException")


class Cluster:
    """The brokers of `shape`; `marks` are processes of theirs that run already, by broker id."""

    def __init__(
        self,
        runtime: Runtime,
        shape: ClusterShape,
        *,
        process_group: int | None,
        marks: Mapping[int, ProcessMark] | None = None,
    ) -> None:
        self._process_group = process_group
        self.shape = shape
        running = marks or {}
        self.brokers = {node.id: Broker(runtime, shape, node, running.get(node.id)) for node in shape.nodes}

    def spawn(self) -> None:
        """Starts every broker that does not run, without waiting for it."""
        for broker in self.brokers.values():
            if not broker.is_alive():
                broker.start(self._process_group)

    def wait_until_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Waits until Kafka's API answers and every broker is in the cluster.

        Raises:
            BrokerDied: one ended.
            BrokerSilent: they did not answer within `timeout_s` seconds.
        """
        # confluent_kafka takes a while to load, which is better spent while Java loads too.
        from fairlane.kafka.readiness import wait_until_ready

        if not wait_until_ready(self.shape.bootstrap.split(","), timeout_s, self._check_alive):
            first = next(iter(self.brokers.values()))
            raise BrokerSilent(self.shape.bootstrap, timeout_s, str(first.log_path), first.died().log_end)

    def _check_alive(self) -> None:
        for broker in self.brokers.values():
            if not broker.is_alive():
                raise broker.died()

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Ends every broker: SIGTERM, and SIGKILL after `grace_s` seconds; 0 kills at once."""
        end_brokers({id_: broker.mark for id_, broker in self.brokers.items() if broker.mark}, grace_s)

    def kill(self, broker_id: int) -> None:
        """Kill -9 of one broker, as a crash would: its files stay as they are.

        Raises:
            UsageError: there is no such broker.
        """
        self._broker(broker_id).stop(grace_s=0)

    def restart(self, broker_id: int, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Starts one broker again, stopping it first if it runs, and waits until it is in the cluster.

        Raises:
            BrokerDied, BrokerSilent: as in `wait_until_ready`; UsageError: there is no such broker.
        """
        broker = self._broker(broker_id)
        broker.stop(STOP_GRACE_S)
        broker.start(self._process_group)
        self.wait_until_ready(timeout_s)

    def _broker(self, broker_id: int) -> Broker:
        if broker_id not in self.brokers:
            raise UsageError(f"there is no broker {broker_id}", f"They are numbered 1 to {len(self.brokers)}")
        return self.brokers[broker_id]


def start_cluster(
    runtime: Runtime,
    *,
    brokers: int,
    port: int,
    data_dir: Path,
    process_group: int | None,
    on_spawn: Callable[[Cluster], None] | None = None,
    timeout_s: float = READY_TIMEOUT_S,
    extras: Extras | None = None,
) -> Cluster:
    """Starts so many brokers on the data in `data_dir` and waits until they are ready.

    Args:
        runtime: Java and jars.
        brokers: 1 or more.
        port: of the first broker, the next ones follow; 0 finds free ones.
        data_dir: made if it does not exist.
        process_group: as in `Broker.start`.
        on_spawn: told as soon as there are processes, before they are ready.
        timeout_s: how long they may take to be ready.
        extras: what is out of the ordinary about them.

    Raises:
        PortTaken, DataMismatch, PlaceUnusable, BrokerDied, BrokerSilent, UsageError.
    """
    if brokers < 1:
        raise UsageError(f"{brokers} brokers make no cluster", "One is enough to work with, three show replication")
    if "," in str(data_dir):
        raise UsageError(f"{str(data_dir)!r} has a comma", "Kafka would take it for two directories: name another one")
    extras = extras or Extras()
    for attempt in range(_ATTEMPTS):
        shape = ClusterShape(choose_nodes(brokers, port, len(extras.listeners)), data_dir.absolute(), extras)
        with writing(shape.data_dir, "another --data-dir"):
            prepare(shape, runtime.distribution, runtime.java)
        cluster = Cluster(runtime, shape, process_group=process_group)
        try:
            cluster.spawn()
            if on_spawn is not None:
                on_spawn(cluster)
            cluster.wait_until_ready(timeout_s)
            return cluster
        except BaseException as error:
            cluster.stop(grace_s=0)
            if not isinstance(error, BrokerDied) or attempt == _ATTEMPTS - 1:
                raise
            if error.exit_status == -signal.SIGABRT and runtime.archive is not None:
                # Java crashed. An archive that was damaged on the disk can do that, and is made again next time.
                runtime.archive.unlink(missing_ok=True)
                runtime = runtime.without_archive()
            # A free port may be taken by somebody else before the broker gets there: then it is another one's turn.
            elif not any(phrase in error.log_end for phrase in _IN_USE):
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")
