"""Subject: sends tasks at a steady rate and waits for each one's result as a reader of committed status events sees it.

The time at which a task was enqueued is its payload and its result; p50 and p99 of result seen minus enqueued, ms.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from load import UNSAMPLED, headers

from fairlane import Fairlane
from fairlane.topics.events import decode_status
from fairlane.topics.ids import new_id
from subjects.hosting import tell

TICK_S = 0.01
LEFT_OVER_S = 30.0


def send(app: Fairlane, per_s: float, seconds: float) -> int:
    """So many a second, for so long; returns how many."""
    to = Producer(app.connection.producer(linger_ms=0))
    fixed, lane = headers("probe", UNSAMPLED), app.names.lane(3)
    began, sent = time.perf_counter(), 0
    while (passed_s := time.perf_counter() - began) < seconds:
        while sent < passed_s * per_s:
            to.produce(lane, b'{"sent_ns":%d}' % time.time_ns(), headers=[*fixed, ("ce_id", new_id())])
            sent += 1
        to.poll(0)
        time.sleep(TICK_S)
    to.flush(30)
    return sent


class Results(threading.Thread):
    """Reads status events from now on."""

    def __init__(self, app: Fairlane) -> None:
        super().__init__(daemon=True)
        self.took_ms: list[float] = []
        topic = app.names.status
        self._consumer = Consumer(app.connection.consumer(group_id=f"{app.queue}-results", fetch_wait_max_ms=10))
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, 0) for number in partitions])

    def run(self) -> None:
        while True:
            message = self._consumer.poll(1.0)
            event = decode_status(message.value() or b"") if message is not None and not message.error() else None
            if event is not None and event.state == "completed":
                self.took_ms.append((time.time_ns() - int(bytes(event.result))) / 1e6)


def main(queue: str, per_s: float, seconds: float) -> None:
    app = Fairlane(queue)
    results = Results(app)
    results.start()
    sent = send(app, per_s, seconds)
    deadline = time.monotonic() + LEFT_OVER_S
    while len(results.took_ms) < sent and time.monotonic() < deadline:
        time.sleep(0.02)
    if len(results.took_ms) != sent:
        raise SystemExit(f"{sent} tasks, {len(results.took_ms)} results")
    cuts = statistics.quantiles(results.took_ms, n=100)
    tell({"p50_ms": cuts[49], "p99_ms": cuts[98], "seconds": seconds, "sent": sent})


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
