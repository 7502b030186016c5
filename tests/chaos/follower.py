"""What a read_committed reader sees of the queue: outcomes as they come, and what there is of tasks in the end.

Invariant: it reads Kafka and nothing that a worker says, on a way that no fault of the network is on; and what it says
in the end is what the topic has then, not only what came while brokers died.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from live_queue import headers_of, records
from waiting import wait_until

from chaos.accounts import Event, Stored
from fairlane.topics import events
from fairlane.topics.connection import Connection
from fairlane.topics.names import DEFAULT_TIERS, QueueNames

_ASK_S: Final = 10.0


class Follower:
    """Follows the status topic, on a thread.

    Args:
        bootstrap: of the brokers.
        names: of the queue.
    """

    def __init__(self, bootstrap: str, names: QueueNames) -> None:
        self._bootstrap = bootstrap
        self._names = names
        self._connection = Connection(bootstrap)
        self.events: list[Event] = []
        self._at: dict[int, int] = {}
        self._seen: set[tuple[int, int]] = set()
        self.jumps = 0
        """How often Kafka or its client would have let it leave out records: it went back."""
        self.read_late = 0
        """Events that did not come while they were followed, and are in the topic."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="chaos-follower", daemon=True)
        self._thread.start()

    @property
    def sources(self) -> list[str]:
        """The topics that tasks are read from."""
        return [lane.topic for lane in self._names.default_lanes()] + [self._names.tier(tier) for tier in DEFAULT_TIERS]

    def _consumer(self, group: str) -> Consumer:
        # Never a silent jump to the end, as after a log that seemed to be cut off under a new leader.
        properties = self._connection.consumer(enable_partition_eof=True, auto_offset_reset="error")
        return Consumer(properties | {"group.id": group, "log_level": 0})

    def _follow(self) -> None:
        consumer = self._consumer(f"{self._names.queue}-follower")
        topic = self._names.status
        partitions = consumer.list_topics(topic, timeout=_ASK_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        while not self._stopping.is_set():
            for message in consumer.consume(1_000, 0.05):
                error = message.error()
                if error is None:
                    self._note(message)
                    self._at[message.partition() or 0] = (message.offset() or 0) + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    # Behind the last record there may be markers of transactions.
                    self._at[message.partition() or 0] = message.offset() or 0
                elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                    self.jumps += 1
                    number = message.partition() or 0
                    consumer.seek(TopicPartition(topic, number, self._at.get(number, 0)))
        consumer.close()

    def _note(self, message: Message) -> None:
        place = (message.partition() or 0, message.offset() or 0)
        if place in self._seen:
            return
        self._seen.add(place)
        event = events.decode_status(message.value() or b"")
        if event is not None:
            origin = (headers_of(message)["fairlane-origin"] or b"").decode()
            self.events.append(
                Event(time.time(), origin, event.id, event.type, event.state, event.attempt, event.reason, event.worker)
            )

    def read_to_end(self) -> None:
        """Wait until all that is in the status topic now was read."""
        consumer = self._consumer(f"{self._names.queue}-end")
        ends = {}
        for number in consumer.list_topics(self._names.status, timeout=_ASK_S).topics[self._names.status].partitions:
            ends[number] = consumer.get_watermark_offsets(TopicPartition(self._names.status, number), timeout=_ASK_S)[1]
        consumer.close()
        wait_until(
            lambda: all(self._at.get(number, 0) >= end for number, end in ends.items()), "the end of the statuses", 60
        )
        self.stop()
        before = len(self.events)
        for message in self._records(self._names.status):
            self._note(message)
        self.read_late = len(self.events) - before

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(_ASK_S)

    def lag(self) -> dict[str, int] | None:
        """What the workers' group has left to read, by Kafka's own end offsets; None if Kafka does not answer."""
        consumer = self._consumer(self._names.group)
        try:
            places = [
                TopicPartition(topic, number)
                for topic in self.sources
                for number in consumer.list_topics(topic, timeout=_ASK_S).topics[topic].partitions
            ]
            found = {}
            for place in consumer.committed(places, timeout=_ASK_S):
                where = TopicPartition(place.topic, place.partition)
                end = consumer.get_watermark_offsets(where, timeout=_ASK_S)[1]
                if end > max(place.offset, 0):
                    found[f"{place.topic}/{place.partition}"] = end - max(place.offset, 0)
            return found
        except KafkaException:
            return None
        finally:
            consumer.close()

    def stored(self) -> tuple[list[Stored], list[str]]:
        """The records in which tasks were first enqueued, by producers or by outcomes; and the origins of those that
        have a record at or behind what the workers' group has committed: with these it is not through.
        """
        first, waiting = [], []
        for topic in self.sources:
            found = self._records(topic)
            committed = self._committed(topic)
            for message in found:
                headers = headers_of(message)
                place = f"{topic}/{message.partition()}/{message.offset()}"
                origin = (headers.get("fairlane-origin") or b"").decode()
                if not origin:
                    first.append(Stored(place, (headers.get("ce_id") or b"").decode()))
                if (message.offset() or 0) >= committed[message.partition() or 0]:
                    waiting.append(origin or place)
        return first, waiting

    def _committed(self, topic: str) -> dict[int, int]:
        consumer = self._consumer(self._names.group)
        try:
            numbers = consumer.list_topics(topic, timeout=_ASK_S).topics[topic].partitions
            places = consumer.committed([TopicPartition(topic, number) for number in numbers], timeout=_ASK_S)
            return {place.partition: max(place.offset, 0) for place in places}
        finally:
            consumer.close()

    def letters(self) -> list[str]:
        """The origins of the dead letters."""
        return [(headers_of(each)["fairlane-origin"] or b"").decode() for each in self._records(self._names.dlq)]

    def _records(self, topic: str) -> list[Message]:
        return records(self._bootstrap, topic, timeout_s=300)
