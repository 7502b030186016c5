"""Trimming: what is settled is kept for replay for a while, and then deleted.

Invariant: no record is deleted that is not settled, whatever its age: the limit is the committed watermark of its
partition, and of that only what is older than `keep_s`. Lanes that are somebody else's topics are never trimmed, and
neither is the DLQ.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.delivery import Partition
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.denial import Denials, on_topic

_logger = logging.getLogger("fairlane.trimming")

TIMEOUT_S: Final = 30.0


def cuts(committed: Mapping[Partition, int], older: Mapping[Partition, int]) -> dict[Partition, int]:
    """Before which offset each partition may be deleted.

    Args:
        committed: the watermark of each partition that has one: every offset below it is settled.
        older: the first offset of each partition that is not older than `keep_s`; negative where none is that young.
    """
    found = {}
    for partition, watermark in committed.items():
        if watermark > 0 and partition in older:
            young_from = older[partition]
            cut = watermark if young_from < 0 else min(watermark, young_from)
            if cut > 0:
                found[partition] = cut
    return found


class Trimming:
    """Deletes what was settled long enough ago. One worker of a queue does it; it does no harm if two do.

    Args:
        config: of the worker.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        names = config.names
        own = [lane.topic for lane in config.lanes if names.owns(lane)]
        self._topics = frozenset([*own, *config.tier_of(), names.events])
        self._refused = False
        self._denials = Denials(config.connection, _logger)

    def run(self, now_ms: int) -> int:
        """Delete what may be deleted now; returns in how many partitions something may go. Blocks.

        Args:
            now_ms: Unix ms.
        """
        if self._config.keep_s is None:
            return 0
        # A consumer that joins nothing: AdminClient.list_consumer_group_offsets has crashed the process.
        properties = self._config.connection.consumer() | {"group.id": self._config.names.group}
        consumer = Consumer(properties, logger=librdkafka_log)
        try:
            committed = self._committed(consumer)
            older = self._older(consumer, committed, now_ms - round(self._config.keep_s * 1000))
            return self._delete(cuts(committed, older))
        except KafkaException as error:
            _logger.warning("could not trim: %s", error.args[0])
            return 0
        except Exception:
            # What is not deleted now is deleted the next time.
            _logger.exception("could not trim")
            return 0
        finally:
            consumer.close()

    def _committed(self, consumer: Consumer) -> dict[Partition, int]:
        known = consumer.list_topics(timeout=TIMEOUT_S).topics
        asked = [
            TopicPartition(topic, number)
            for topic in sorted(self._topics.intersection(known))
            for number in known[topic].partitions
        ]
        places = consumer.committed(asked, timeout=TIMEOUT_S) if asked else []
        return {
            (place.topic, place.partition): place.offset for place in places if not place.error and place.offset > 0
        }

    def _older(self, consumer: Consumer, committed: Mapping[Partition, int], cutoff_ms: int) -> dict[Partition, int]:
        if not committed:
            return {}
        asked = [TopicPartition(*partition, cutoff_ms) for partition in committed]
        places = consumer.offsets_for_times(asked, timeout=TIMEOUT_S)
        return {(place.topic, place.partition): place.offset for place in places if not place.error}

    def _delete(self, found: Mapping[Partition, int]) -> int:
        if not found:
            return 0
        admin = AdminClient(self._config.connection.admin(), logger=librdkafka_log)
        places = [TopicPartition(*partition, offset) for partition, offset in found.items()]
        for place, answer in admin.delete_records(places, request_timeout=TIMEOUT_S).items():
            try:
                answer.result(TIMEOUT_S)
            except KafkaException as error:
                refusal: KafkaError = error.args[0]
                action = f"delete settled records of {place.topic} (keep_s)"
                if not self._denials.tell(refusal, action, on_topic("Delete", place.topic)) and not self._refused:
                    self._refused = True
                    _logger.warning("settled records of %s stay: Kafka refused: %s", place.topic, refusal.name())
        return len(places)
