"""Subject: a raw confluent-kafka loop: consume a batch, produce a record for each, commit. The speed of light here."""

from __future__ import annotations

import json
import sys
import time

from confluent_kafka import Consumer, Producer

from fairlane.topics.connection import Connection
from fairlane.topics.names import LEVELS, QueueNames


def main(bootstrap: str, queue: str, tasks: int) -> None:
    names = QueueNames(queue)
    connection = Connection(bootstrap)
    properties = connection.consumer() | {
        "group.id": f"{queue}-raw",
        "group.protocol": "consumer",
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer(properties)
    producer = Producer(connection.producer(linger_ms=5, queue_buffering_max_messages=500_000))
    consumer.subscribe([names.lane(level) for level in LEVELS])
    seen, began = 0, 0.0
    while seen < tasks:
        batch = consumer.consume(500, 1.0)
        if batch and not began:
            began = time.perf_counter()
        for message in batch:
            producer.produce(names.status, message.value(), message.key())
        seen += len(batch)
        producer.poll(0)
        if batch:
            consumer.commit(asynchronous=True)
    producer.flush()
    took_s = time.perf_counter() - began
    consumer.close()
    print(json.dumps({"per_s": tasks / took_s}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
