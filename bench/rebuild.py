"""How long a new owner takes to be restored: `python bench/rebuild.py`, a table and its JSON as last line.

Method: so many schedules are in a changelog, spread over the partitions by their keys, each written so often. One
worker takes over all partitions at once, as after the death of the only other one: time runs from the first question to
Kafka until the last owner has begun, wall and CPU of this process. Per million is of schedules, not of records.
"""

from __future__ import annotations

import argparse
import json
import time
import uuid

from confluent_kafka import Producer

from fairlane.consumer.changelog import Changelog
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.owner import Owner
from fairlane.consumer.schedule_machine import Schedules
from fairlane.kafka import EmbeddedKafka
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.connection import Connection
from fairlane.topics.names import QueueNames
from fairlane.topics.schedules import Schedule, ScheduleState, encode, key_of
from fairlane.topics.topology import Topology

PARTITIONS = 12


def write(connection: Connection, names: QueueNames, schedules: int, times: int) -> None:
    """Write the states of so many schedules, each so often."""
    producer = Producer(connection.producer(linger_ms=20))
    at_ms = time.time_ns() // 1_000_000
    for written in range(times):
        for number in range(schedules):
            schedule = Schedule(name=f"schedule-{number}", type="report", cron="0 9 * * 1-5", tz="Europe/Berlin")
            state = ScheduleState(schedule=schedule, last_ms=at_ms + written, fired=written)
            while True:
                try:
                    producer.produce(names.state, encode(state), key_of(schedule.name))
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush(60)


def measure(connection: Connection, schedules: int, times: int) -> dict[str, float]:
    """Restore them."""
    names = QueueNames(f"b-{uuid.uuid4().hex[:8]}")
    TopicAdmin(connection, timeout_s=60).create(Topology.of(names, partitions=PARTITIONS))
    write(connection, names, schedules, times)
    config = WorkerConfig(connection, names.queue, worker="w")
    owners = {number: Owner([Schedules(config.lanes)], 0) for number in range(PARTITIONS)}
    changelog = Changelog(config)
    began, began_cpu = time.monotonic(), time.process_time()
    for number in owners:
        changelog.begin(number)
    while changelog.busy:
        step = changelog.step()
        for partition, key, value in step.records:
            owners[partition].restore(key, value)
        for partition in step.through:
            owners[partition].begin()
    took_s, took_cpu_s = time.monotonic() - began, time.process_time() - began_cpu
    changelog.close()
    restored = sum(owner.entities for owner in owners.values())
    assert restored == schedules, f"{restored} of {schedules} were restored"
    return {
        "schedules": schedules,
        "records": schedules * times,
        "took_s": round(took_s, 2),
        "took_cpu_s": round(took_cpu_s, 2),
        "s_per_million": round(took_s / schedules * 1e6, 1),
        "cpu_s_per_million": round(took_cpu_s / schedules * 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=2, help="how often each was written, as before a compaction")
    parser.add_argument("--bootstrap", default="", help="a Kafka that runs already")
    given = parser.parse_args()
    if given.bootstrap:
        found = measure(Connection(given.bootstrap), given.schedules, given.times)
    else:
        with EmbeddedKafka() as kafka:
            found = measure(Connection(kafka.bootstrap), given.schedules, given.times)
    for name, value in found.items():
        print(f"{name:>18} {value:>12,}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
