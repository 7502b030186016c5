"""Kafka in the background under a name: what `fairlane kafka start|stop|status` do.

Invariant: one cluster a name; start and stop of one name never overlap, also not from two terminals.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fairlane.kafka import places, state
from fairlane.kafka.broker import Runtime, end_brokers
from fairlane.kafka.cluster import READY_TIMEOUT_S, STOP_GRACE_S, Cluster, start_cluster
from fairlane.kafka.errors import AlreadyRunning, NotRunning, PortTaken
from fairlane.kafka.jar_pins import KAFKA_VERSION
from fairlane.kafka.locks import locked
from fairlane.kafka.places import writing
from fairlane.kafka.state import NamedBroker, NamedKafka
from fairlane.kafka.storage import read_record

DEFAULT_NAME: Final = "default"
DEFAULT_PORT: Final = 9092


@dataclass(frozen=True)
class Asked:
    """What a start asks for; None means whatever the data or the running cluster has, else the default.

    Attributes:
        name: of the cluster.
        port: of the first broker; 0 means any free ones.
        brokers: how many.
        data_dir: where the data is kept.
    """

    name: str = DEFAULT_NAME
    port: int | None = None
    brokers: int | None = None
    data_dir: Path | None = None

    def difference(self, running: NamedKafka) -> str | None:
        """In what the running cluster is not what is asked for, None if it is."""
        first = running.brokers[0].node.port
        if self.port and self.port != first:
            return f"on port {first} and not {self.port}"
        if self.brokers is not None and self.brokers != len(running.brokers):
            return f"with {len(running.brokers)} broker(s) and not {self.brokers}"
        if self.data_dir is not None and self.data_dir.absolute() != running.data_dir:
            return f"on the data in {running.data_dir}"
        return None


def start(
    asked: Asked,
    runtime: Callable[[], Runtime],
    *,
    process_group: int | None = None,
    timeout_s: float = READY_TIMEOUT_S,
) -> tuple[NamedKafka, bool]:
    """Starts a cluster under a name, unless it runs; brokers of it that died are started again.

    Args:
        asked: what is wanted.
        runtime: finds Java and jars; called only if something is to be started.
        process_group: as in `Broker.start`.
        timeout_s: how long it may take to be ready.

    Returns:
        What runs now, and whether this call started any of it.

    Raises:
        AlreadyRunning: it runs in another shape.
        EmbeddedKafkaError: as `start_cluster`.
    """
    record = _record_path(asked.name)
    with writing(record.parent, "FAIRLANE_STATE_DIR"):
        record.parent.mkdir(parents=True, exist_ok=True)
    with locked(record.with_suffix(".lock"), timeout_s + STOP_GRACE_S):
        running = state.read(record)
        if running is not None and running.is_running():
            difference = asked.difference(running)
            if difference is not None:
                raise AlreadyRunning(asked.name, running.shape.bootstrap, difference)
            if all(broker.is_alive() for broker in running.brokers):
                return running, False
            revived = Cluster(runtime(), running.shape, process_group=process_group, marks=running.marks)
            revived.spawn()
            state.write(record, _named(asked.name, revived))
            revived.wait_until_ready(timeout_s)
            return _named(asked.name, revived), True
        data_dir = (asked.data_dir or places.named_dir(os.environ) / asked.name).absolute()
        made_for = read_record(data_dir)
        try:
            cluster = start_cluster(
                runtime(),
                brokers=asked.brokers if asked.brokers is not None else made_for.brokers if made_for else 1,
                port=DEFAULT_PORT if asked.port is None else asked.port,
                data_dir=data_dir,
                process_group=process_group,
                # Before it is ready, so that a start that is killed leaves nothing that nobody knows of.
                on_spawn=lambda spawned: state.write(record, _named(asked.name, spawned)),
                timeout_s=timeout_s,
            )
        except BaseException as error:
            record.unlink(missing_ok=True)
            if isinstance(error, PortTaken):
                raise PortTaken(error.host, error.port, _holder_of(error.port)) from error
            raise
        return _named(asked.name, cluster), True


def stop(name: str, grace_s: float = STOP_GRACE_S) -> NamedKafka:
    """Stops what runs under `name`: SIGTERM, and SIGKILL after `grace_s` seconds. Its data stays.

    Returns:
        What was stopped.

    Raises:
        NotRunning: nothing was.
        BrokerStuck: one would not end.
    """
    record = _record_path(name)
    with locked(record.with_suffix(".lock"), READY_TIMEOUT_S + STOP_GRACE_S):
        running = state.read(record)
        if running is None or not running.is_running():
            record.unlink(missing_ok=True)
            raise NotRunning(name, tuple(other.name for other in running_now()))
        end_brokers(running.marks, grace_s)
        record.unlink(missing_ok=True)
        return running


def forget(name: str) -> None:
    """Removes the record of `name`; for whoever started it and has ended it."""
    _record_path(name).unlink(missing_ok=True)


def running_now() -> list[NamedKafka]:
    """Everything that runs under a name, by name; records of what has ended are left out."""
    records = (state.read(path) for path in sorted(places.named_dir(os.environ).glob("*.json")))
    return [kafka for kafka in records if kafka is not None and kafka.is_running()]


def _holder_of(port: int) -> str:
    holders = [kafka.name for kafka in running_now() if any(port == node.port for node in kafka.shape.nodes)]
    return f"fairlane's own Kafka {holders[0]!r}" if holders else ""


def _named(name: str, cluster: Cluster) -> NamedKafka:
    brokers = tuple(
        NamedBroker(broker.node, broker.mark) for broker in cluster.brokers.values() if broker.mark is not None
    )
    return NamedKafka(name, KAFKA_VERSION, cluster.shape.data_dir, time.time_ns() // 1_000_000, brokers)


def _record_path(name: str) -> Path:
    return places.named_dir(os.environ) / f"{places.check_name(name)}.json"
