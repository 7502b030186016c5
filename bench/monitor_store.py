"""What the store of `fairlane monitor serve` takes: `python bench/monitor_store.py`, a table and its JSON as last line.

Method: records as clients and settlers write them are in the topics of a queue before the store is opened, one task in
twenty with a retry and an error that can be searched; the store reads them by the code that serves. Two events a task:
its record in a lane, its status. The processor time is that of the thread that reads and writes, which is what limits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
import uuid
from pathlib import Path

from confluent_kafka import Producer
from msgspec import Raw

from fairlane.kafka import EmbeddedKafka
from fairlane.monitor.store.database import Database
from fairlane.monitor.store.follower import Follower
from fairlane.monitor.store.keeping import Keep
from fairlane.topics import wire
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.connection import Connection
from fairlane.topics.events import ErrorInfo, StatusEvent, encode
from fairlane.topics.ids import new_id
from fairlane.topics.names import QueueNames
from fairlane.topics.task import Task
from fairlane.topics.topology import Topology

TYPES = ("send_receipt", "charge_card", "resize_image", "import_legacy")


def fill(connection: Connection, names: QueueNames, tasks: int) -> int:
    """Write so many tasks that ended, each a record in a lane and its events; returns how many records."""
    producer = Producer(connection.producer(linger_ms=50, compression_type="lz4", queue_buffering_max_messages=500_000))
    now_ms = time.time_ns() // 1_000_000
    records = 0
    for number in range(tasks):
        level = 1 + number % 5
        task = Task(id=new_id(), type=TYPES[number % 4], payload=b"{}", priority=level, enqueued_ms=now_ms)
        lane = names.lane(level)
        producer.produce(lane, b'{"order": 7}', headers=list(wire.encode(task)))
        failed = number % 20 == 0
        event = StatusEvent(
            task.id, task.type, "failed" if failed else "completed", lane, 3 if failed else 1, 3, now_ms, now_ms + 5,
            now_ms + 9, 0, "worker-1", lane, number % 12, number,
            reason="max_attempts" if failed else "", result=Raw(b'{"ok": true}'),
            error=ErrorInfo("ValueError", f"customers-{number}.csv: line {number % 97} is no CSV") if failed else None,
        )  # fmt: skip
        producer.produce(names.status, encode(event), task.id.encode())
        records += 2
        if number % 10_000 == 0:
            producer.flush(60)
        producer.poll(0)
    assert producer.flush(60) == 0
    return records


def store_size(path: Path) -> float:
    """Size of the file and of its log, MiB."""
    return sum(file.stat().st_size for file in path.parent.glob(path.name + "*")) / 2**20


def take(connection: Connection, names: QueueNames, path: Path, keep: Keep) -> dict[str, float]:
    """Read everything into a store; how fast."""
    database = Database(path, names.queue)
    follower = Follower(connection, names, database, keep)
    began, cpu = time.monotonic(), time.thread_time()
    follower.run(threading.Event(), until_caught_up=True)
    took_s, cpu_s = time.monotonic() - began, time.thread_time() - cpu
    progress = follower.progress
    (rows,) = database.writer.execute("SELECT count(*) FROM tasks").fetchone()
    follower.close()
    database.close()
    return {
        "events": progress.records,
        "rows": rows,
        "forgotten": progress.forgotten,
        "seconds": round(took_s, 2),
        "events_per_s": round(progress.records / took_s),
        "cpu_us_per_event": round(cpu_s / progress.records * 1e6, 1),
        "events_per_cpu_s": round(progress.records / cpu_s),
        "size_mib": round(store_size(path), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--max-mib", type=int, default=2_048, help="the size that the store is kept within")
    given = parser.parse_args()
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        connection, names = Connection(kafka.bootstrap), QueueNames(f"b-{uuid.uuid4().hex[:8]}")
        TopicAdmin(connection, timeout_s=60).create(Topology.of(names))
        fill(connection, names, given.tasks)
        found = take(connection, names, Path(folder) / "store.db", Keep(max_bytes=given.max_mib << 20))
    for name, value in found.items():
        print(f"{name:>18} {value:>12,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
