"""Tells the owners of schedules what the app of this worker defines.

Invariant: each definition is written until Kafka has acknowledged it, outside of any transaction: to say it twice is to
say it once. A worker whose app defines nothing makes no producer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fairlane.consumer.config import WorkerConfig
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.clock import now_ms
from fairlane.topics.denial import Denials, on_topic
from fairlane.topics.schedules import Schedule, ScheduleEvent, encode, key_of
from fairlane.topics.trouble import Trouble

_logger = logging.getLogger("fairlane.owners")

BACKOFF_S: Final = 1.0
TIMEOUT_S: Final = 30.0


class Announcing:
    """Owned by one thread.

    Args:
        config: of the worker.
        schedules: what the app defines.
    """

    def __init__(self, config: WorkerConfig, schedules: Sequence[Schedule]) -> None:
        self._config = config
        self._topic = config.names.events
        self._open = {each.name: each for each in schedules}
        self._sent: set[str] = set()
        self._again_at = 0.0
        self._producer: Producer | None = None
        self._denials = Denials(config.connection, _logger)
        self._trouble = Trouble()

    @property
    def done(self) -> bool:
        """Whether all of it is acknowledged."""
        return not self._open

    def step(self) -> None:
        """Write what is not on its way, and hear of what is."""
        if self._producer is None:
            properties = self._config.connection.producer(message_timeout_ms=round(TIMEOUT_S * 1000))
            self._producer = Producer(properties, logger=librdkafka_log)
        if time.monotonic() >= self._again_at:
            for schedule in [each for name, each in self._open.items() if name not in self._sent]:
                event = ScheduleEvent(
                    action="define",
                    name=schedule.name,
                    at_ms=now_ms(),
                    who=self._config.worker[:300],
                    schedule=schedule,
                )
                try:
                    self._producer.produce(
                        self._topic,
                        encode(event),
                        key_of(schedule.name),
                        on_delivery=partial(self._delivered, schedule.name),
                    )
                except (BufferError, KafkaException):
                    break
                self._sent.add(schedule.name)
        self._producer.poll(0)
        if self.done:
            self._producer = None

    def _delivered(self, name: str, error: KafkaError | None, _: Message) -> None:
        self._sent.discard(name)
        if error is None:
            self._open.pop(name, None)
            return
        self._again_at = time.monotonic() + BACKOFF_S
        is_denied = self._denials.tell(error, "write schedules of the app", on_topic("Write", self._topic))
        if not is_denied and self._trouble.tell(error.name(), time.monotonic()):
            _logger.warning("could not write the schedules of the app yet (%s); trying again", error.str())
