"""The heartbeat: what this worker says of itself every second.

Invariant: a heartbeat is an answer to "what is running now", never part of a settlement: it is written by a plain
producer, and losing one loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Final, Literal

from confluent_kafka import KafkaException, Producer

from fairlane.consumer.config import WorkerConfig
from fairlane.topics import events
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.clock import now_ms
from fairlane.topics.events import Heartbeat

_logger = logging.getLogger("fairlane.heartbeat")

PERIOD_S: Final = 1.0
LONG_MS: Final = 500
"""A task that has been running for so long is listed."""
LISTED_MAX: Final = 200
HostState = Literal["starting", "running", "draining", "stopped"]


class Pulse:
    """Writes heartbeats.

    Args:
        config: of the worker.
        look: makes the heartbeat of now from one that has the fixed fields.
    """

    def __init__(self, config: WorkerConfig, version: str, look: Callable[[Heartbeat], Heartbeat]) -> None:
        self._topic = config.names.workers
        self._key = config.worker.encode()
        self._look = look
        self._fixed = Heartbeat(
            worker=config.worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version,
            started_ms=now_ms(),
            concurrency=config.concurrency,
            transactional_id=config.transactional_id_prefix,
        )
        self._producer = Producer(
            config.connection.producer(linger_ms=0, message_timeout_ms=5_000), logger=librdkafka_log
        )

    async def run(self) -> None:
        """Beat until cancelled."""
        ends = time.monotonic()
        while True:
            self.beat()
            ends += PERIOD_S
            await asyncio.sleep(max(0.05, ends - time.monotonic()))

    def beat(self) -> None:
        """Say how it is now."""
        beat = self._look(self._fixed)
        try:
            self._producer.produce(self._topic, events.encode(beat), self._key)
            self._producer.poll(0)
        except (BufferError, KafkaException) as error:
            _logger.debug("no heartbeat: %s", error)

    def close(self, timeout_s: float) -> None:
        """Say the last one, and wait for it."""
        self.beat()
        self._producer.flush(timeout_s)
