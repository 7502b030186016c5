"""A queue as an earlier version left it: its golden file, written into a real Kafka offset for offset.

Invariant: what is written is in the file, byte for byte, at its offset; where the file has no record, there is the
marker of a transaction, or a record of one that was aborted. The group's commits have their metadata.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition
from golden_files import FOLDER, to_bytes, to_headers
from live_queue import wait_until
from working_queue import WorkingQueue


class _Records(msgspec.Struct):
    topic: str
    partition: int
    end: int
    records: list[dict[str, Any]]
    committed: int = -1
    metadata: str = ""


class Unfinished(msgspec.Struct):
    """A task that had not ended.

    Attributes:
        origin: its origin.
        id: its id.
        type: its type.
        attempt: number of its next attempt.
    """

    origin: str
    id: str
    type: str
    attempt: int


class LeftQueue(msgspec.Struct):
    """The file.

    Attributes:
        queue: the name that the queue has to have, since its records name its topics.
        unfinished: what is still to be done.
    """

    queue: str
    unfinished: list[Unfinished]
    partitions: list[_Records]

    @classmethod
    def of(cls, version: str) -> LeftQueue:
        """As that version left it."""
        return msgspec.json.decode((FOLDER / "left" / f"{version}.json").read_bytes(), type=cls)

    def values(self, topic: str) -> list[bytes]:
        """The values of a topic's records."""
        records = (each for part in self.partitions if part.topic == topic for each in part.records)
        return [to_bytes(each["value"]) or b"" for each in records]

    def write(self, into: WorkingQueue) -> None:
        """Write all of it into a queue of its name, whose topics are empty."""
        assert into.names.queue == self.queue
        properties = into.connection.producer(transactional_id=f"{self.queue}-left", linger_ms=0)
        settler, client = Producer(properties), Producer(into.connection.producer(linger_ms=0))
        settler.init_transactions(20)
        consumer = Consumer(into.connection.consumer(group_id=into.names.group))
        for part in self.partitions:
            _write(part, settler, client, consumer)
        commits = [
            TopicPartition(part.topic, part.partition, part.committed, metadata=part.metadata)
            for part in self.partitions
            if part.committed >= 0
        ]
        consumer.commit(offsets=commits, asynchronous=False)
        consumer.close()


def _write(part: _Records, settler: Producer, client: Producer, consumer: Consumer) -> None:
    # Records without a gap between them have the same distance of offset and place.
    numbered = groupby(enumerate(part.records), lambda each: each[1]["offset"] - each[0])
    runs = [[record for _, record in run] for _, run in numbered]
    place = TopicPartition(part.topic, part.partition)

    def reaches(offset: int) -> None:
        # A transaction is over before its markers are written.
        wait_until(lambda: consumer.get_watermark_offsets(place, timeout=60)[1] == offset, f"{place} ends at {offset}")

    for number, run in enumerate(runs):
        end = run[-1]["offset"] + 1
        gap = (runs[number + 1][0]["offset"] if number + 1 < len(runs) else part.end) - end
        # A marker takes one offset, an aborted record and its marker two.
        if gap % 2:
            settler.begin_transaction()
            _produce(settler, part, run)
            settler.commit_transaction(20)
            end += 1
        else:
            _produce(client, part, run)
        reaches(end)
        for _ in range(gap // 2):
            settler.begin_transaction()
            _produce(settler, part, [{"key": None, "value": "of an aborted transaction", "headers": []}])
            settler.abort_transaction(20)
            end += 2
            reaches(end)


def _produce(producer: Producer, part: _Records, records: list[dict[str, Any]]) -> None:
    for each in records:
        producer.produce(
            part.topic,
            to_bytes(each["value"]),
            to_bytes(each["key"]),
            part.partition,
            headers=list(to_headers(each["headers"])),
        )
    assert producer.flush(20) == 0


def in_a_newer_version(value: bytes) -> bytes:
    """The JSON of an event or a heartbeat, of a version that nobody knows yet, with a field more."""
    return json.dumps({**json.loads(value), "v": 2, "mood": "good"}).encode()
