"""The heartbeat: what this worker says of itself every second.

Invariant: a heartbeat is an answer to "what is running now", never part of a settlement: it is written by a plain
producer, and losing one loses nothing. It comes from a thread of its own: a handler that holds up the event loop is
slow, not dead, and whoever took it for dead would end its transactions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.remedies import MISSING, WHEN, Remedies
from fairlane.topics import events
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.clock import now_ms
from fairlane.topics.denial import DENIALS
from fairlane.topics.events import Heartbeat
from fairlane.topics.missing_topics import missing_topics
from fairlane.topics.trouble import Trouble

_logger = logging.getLogger("fairlane.heartbeat")

PERIOD_S: Final = 1.0
LONG_MS: Final = 500
"""A task that has been running for so long is listed."""
LISTED_MAX: Final = 200


class Pulse:
    """Writes heartbeats.

    Args:
        config: of the worker.
        version: of fairlane or of the app, as it is shown.
        look: makes the heartbeat of now from one that has the fixed fields; called on the thread.
    """

    def __init__(self, config: WorkerConfig, version: str, look: Callable[[Heartbeat], Heartbeat]) -> None:
        self._topic = config.names.workers
        self._remedies = Remedies(config.names, config.connection)
        self._connection = config.connection
        self._trouble = Trouble()
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
            weights={lane.topic: lane.weight for lane in config.lanes},
        )
        # Without idempotence it has no way to fail for good; one in flight keeps the order all the same.
        properties = config.connection.producer(
            linger_ms=0, message_timeout_ms=5_000, enable_idempotence=False, max_in_flight=1
        )
        self._producer = Producer(properties, logger=librdkafka_log)
        self.acknowledged_s: float | None = None
        """When Kafka last acknowledged one, on the monotonic clock; None if it never has."""
        self.last = self._fixed
        """The newest one."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fairlane-heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread: beat every second."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """End the thread, say the last one, and wait for it."""
        self._stopping.set()
        self._thread.join(timeout_s)
        self.beat()
        # A producer that failed for good says so here; there is nobody left to hear it.
        with contextlib.suppress(KafkaException, SystemError):
            self._producer.flush(timeout_s)

    def beat(self) -> None:
        """Say how it is now."""
        try:
            beat = self.last = self._look(self._fixed)
            self._producer.produce(self._topic, events.encode(beat), self._key, on_delivery=self._delivered)
            self._producer.poll(0)
        except KafkaException as error:
            self._tell(error.args[0])
        except BufferError as error:
            _logger.debug("no heartbeat: %s", error)
        except Exception:
            # A worker that falls silent is taken for dead: the next one may succeed.
            _logger.exception("no heartbeat")

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error is None:
            self.acknowledged_s = time.monotonic()
            lasted_s = self._trouble.over(self.acknowledged_s)
            if lasted_s is not None:
                _logger.info("heartbeats arrive again, after %.0f s", lasted_s)
        else:
            self._tell(error)

    def _tell(self, error: KafkaError) -> None:
        """Heartbeats do not arrive: it is the first to hear of it where nothing is to be read or settled."""
        code = error.name()
        what = "missing" if code in MISSING else code
        if not self._trouble.tell(what, time.monotonic()):
            return
        # For a topic that was deleted the client waits in vain.
        if error.code() == KafkaError._MSG_TIMED_OUT and missing_topics(self._connection, [self._topic]):
            code = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART).name()
        if code in DENIALS or code in MISSING:
            remedy = self._remedies.of_topic(code, self._topic, "Write")
            _logger.error(
                "no heartbeat arrives: Kafka refuses topic %s (%s). %s; until then nobody sees this worker, and others "
                "may take it for dead",
                self._topic,
                code,
                remedy,
            )
        else:
            _logger.warning(
                "no heartbeat arrives: Kafka at %s does not take it (%s). Look whether its brokers run; %s",
                self._connection.bootstrap,
                code,
                WHEN,
            )

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.beat()
            self._stopping.wait(PERIOD_S)
