"""How soon workers hear of an operator: `python bench/control.py`, a table and its JSON as last line.

Method: the readers of the control topic of so many workers run (`consumer/control.py`, each with a consumer and a
thread of its own, all in this process), at their end. The queue is paused and resumed in turn, or what `--kind` says is
asked and taken back, by the record that the commands write, by a producer that is connected; time runs from before it
is produced until each of them has told its worker. What follows in a worker, a message to its feed and one to its
reader, which looks every tenth of a second, is not in it.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
import uuid
from functools import partial

from confluent_kafka import Producer

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.control import Control
from fairlane.consumer.orders import Orders
from fairlane.kafka import EmbeddedKafka
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.connection import Connection
from fairlane.topics.control import DEMOTE, KILL, LANE, PAUSE, QUEUE, TYPE, WEIGHT, ControlRecord, encode_control
from fairlane.topics.names import QueueNames
from fairlane.topics.topology import Topology


class Ears:
    """When each worker heard of the newest change."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._heard: dict[int, float] = {}
        self._changed = threading.Condition()

    def hear(self, worker: int, _: Orders) -> None:
        with self._changed:
            self._heard[worker] = time.monotonic()
            self._changed.notify_all()

    def begin(self) -> None:
        with self._changed:
            self._heard.clear()

    def wait(self, timeout_s: float) -> list[float]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._heard) == self._workers, timeout_s), "some have not heard"
            return list(self._heard.values())


def asked(kind: str, names: QueueNames) -> ControlRecord:
    """What is asked and taken back."""
    match kind:
        case "weight":
            return ControlRecord(kind=WEIGHT, scope=LANE + names.lane(3), weight=9, who="bench")
        case "kill":
            where = '/to = "x@y"'
            return ControlRecord(kind=KILL, scope=f"{TYPE}mail?{where}", where=where, action="drop", who="bench")
        case "demote":
            return ControlRecord(kind=DEMOTE, scope=TYPE + "mail", to=names.lane(1), who="bench")
    return ControlRecord(kind=PAUSE, scope=QUEUE, who="bench")


def measure(connection: Connection, workers: int, changes: int, kind: str = PAUSE) -> dict[str, float]:
    """Ask and take back, so many times together, before the ears of so many workers."""
    names, ears = QueueNames(f"b-{uuid.uuid4().hex[:8]}"), Ears(workers)
    TopicAdmin(connection, timeout_s=60).create(Topology.of(names, partitions=1))
    controls = [
        Control(
            WorkerConfig(connection, names.queue, worker=f"w{number}"),
            on_orders=partial(ears.hear, number),
            on_cancelled=lambda _: None,
        )
        for number in range(workers)
    ]
    for control in controls:
        control.start()
    for control in controls:
        control.wait_known(lambda: False)
    record = asked(kind, names)
    producer = Producer(connection.producer())
    # To connect takes a second; that this is taken back changes nothing for anybody.
    producer.produce(names.control, None, record.key)
    producer.flush(30)
    took_ms: list[float] = []
    for number in range(changes):
        ears.begin()
        began = time.monotonic()
        producer.produce(names.control, None if number % 2 else encode_control(record), record.key)
        producer.flush(30)
        took_ms += [(heard - began) * 1000 for heard in ears.wait(30)]
    for control in controls:
        control.stop(5)
    took_ms.sort()
    return {
        "workers": workers,
        "changes": changes,
        "p50_ms": round(took_ms[len(took_ms) // 2], 1),
        "p99_ms": round(took_ms[len(took_ms) * 99 // 100], 1),
        "max_ms": round(took_ms[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--changes", type=int, default=40)
    parser.add_argument("--kind", choices=(PAUSE, WEIGHT, KILL, DEMOTE), default=PAUSE)
    parser.add_argument("--bootstrap", default="", help="a Kafka that runs already")
    given = parser.parse_args()
    if given.bootstrap:
        found = measure(Connection(given.bootstrap), given.workers, given.changes, given.kind)
    else:
        with EmbeddedKafka() as kafka:
            found = measure(Connection(kafka.bootstrap), given.workers, given.changes, given.kind)
    for name, value in found.items():
        print(f"{name:>10} {value:>10,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
