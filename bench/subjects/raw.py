"""Subject: a raw confluent-kafka loop on the same records: the speed of light here.

Method: consume a batch, produce one record for each, commit without waiting. It stores no result, handles no error and
may do everything twice. Time runs from the first batch until all is produced and the last offsets are committed.
"""

from __future__ import annotations

import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException
from load import producer

from fairlane import Fairlane
from fairlane.topics.names import LEVELS
from subjects.hosting import tell

BATCH = 500


def commit_the_rest(consumer: Consumer) -> None:
    """Wait for the last offsets, unless they are committed by now."""
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._NO_OFFSET:
            raise


def main(queue: str, tasks: int) -> None:
    app = Fairlane(queue)
    names = app.names
    consumer = Consumer(
        app.connection.consumer(
            group_id=f"{queue}-raw",
            group_protocol="consumer",
            auto_offset_reset="earliest",
            enable_auto_offset_store=True,
        )
    )
    to = producer(app.connection)
    consumer.subscribe([names.lane(level) for level in LEVELS])
    seen, began = 0, 0.0
    while seen < tasks:
        batch = consumer.consume(BATCH, 1.0)
        if batch and not began:
            began = time.perf_counter()
        for message in batch:
            to.produce(names.replies, message.value(), message.key())
        seen += len(batch)
        to.poll(0)
        if batch:
            consumer.commit(asynchronous=True)
    to.flush()
    commit_the_rest(consumer)
    took_s = time.perf_counter() - began
    consumer.close()
    tell({"per_s": tasks / took_s})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
