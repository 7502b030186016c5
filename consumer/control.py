"""Follows what operators ask of the workers: reads `<queue>.control` to its end before the first task, and goes on.

Invariant: it owns its thread, a consumer without a group, and the state; everybody else looks at `cancels`, and is told
of changes. It never touches the consumer that reads the lanes. Where the topic does not exist or may not be read, the
feature is off and the log says so; where it cannot be read for another reason, no task starts before it was.
A cancel that has served (its task has a terminal event in Kafka) is taken back by the worker that wrote the event, with
a producer of its own, outside of any transaction.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.control_state import Cancel, ControlState
from fairlane.consumer.orders import NO_ORDERS, Orders
from fairlane.consumer.outcome import TERMINAL_OUTCOMES, Outcome
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.clock import now_ms
from fairlane.topics.control import CANCEL, TASK, key_of
from fairlane.topics.denial import Denials, is_denial, on_group, on_topic

_logger = logging.getLogger("fairlane.control")

POLL_S: Final = 0.5
METADATA_S: Final = 5.0
BACKOFF_S: Final = 1.0
OFF_BACKOFF_S: Final = 10.0
"""How often it is looked whether there is a topic by now, or the right to it."""
FETCH_WAIT_MS: Final = 1_000
"""How long a broker holds an empty answer back; a record is answered with at once."""
TOLD_S: Final = 10.0
"""After so long without a word of Kafka's, and then again and again, the log says that tasks wait for it."""
_MISSING: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)


class Control:
    """What operators ask of one worker.

    Args:
        config: of the worker.
        on_orders: told what is in force, whenever that changes; on the thread of this.
        on_cancelled: told the ids of tasks that were cancelled just now, and may run here; on the thread of this.
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        on_orders: Callable[[Orders], None],
        on_cancelled: Callable[[frozenset[str]], None],
    ) -> None:
        self._config = config
        self._topic = config.names.control
        self._on_orders = on_orders
        self._on_cancelled = on_cancelled
        self._state = ControlState(config.lanes, config.names)
        self.cancels: Mapping[str, Cancel] = self._state.cancels
        """By task id; any thread."""
        self.orders = NO_ORDERS
        """What was last told; any thread."""
        self._new: set[str] = set()
        self._served: deque[str] = deque()
        self._producer: Producer | None = None
        self._offset = 0
        """Of the next record: a consumer that is made anew goes on there."""
        self._waited_s = 0.0
        self._known = threading.Event()
        self._is_off = False
        self._told: set[str] = set()
        self._trouble = ""
        self._denials = Denials(config.connection, _logger)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fairlane-control", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def wait_known(self, stopping: Callable[[], bool]) -> bool:
        """Wait until all that was asked is known, or that nothing can be; False if `stopping` says so before."""
        while not self._known.wait(0.05):
            if stopping():
                return False
            self._waited_s += 0.05
            if self._waited_s >= TOLD_S:
                self._waited_s = 0.0
                why = f": {self._trouble}" if self._trouble else ""
                _logger.error(
                    "could not read %s to its end yet%s. No task starts before that, since it may be paused or "
                    "cancelled; it goes on when Kafka answers",
                    self._topic,
                    why,
                )
        return True

    def settled(self, outcomes: Sequence[Outcome]) -> None:
        """These are in Kafka: cancels of tasks that have ended have served. Any thread."""
        cancels = self.cancels
        if not cancels:
            return
        for outcome in outcomes:
            if isinstance(outcome, TERMINAL_OUTCOMES):
                task = outcome.delivery.task
                if (cancel := cancels.get(task.id)) is not None and cancel.binds(task):
                    self._served.append(task.id)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except KafkaException as error:
                self._failed(error.args[0])
                self._stopping.wait(BACKOFF_S)
            except Exception as error:
                # What operators ask is not worth a worker that runs; one that starts waits for it, and says so.
                self._trouble = repr(error)
                _logger.exception("could not follow what operators ask")
                self._stopping.wait(BACKOFF_S)
        if self._producer is not None:
            self._producer.flush(1.0)

    def _follow(self) -> None:
        properties = self._config.connection.consumer(fetch_wait_max_ms=FETCH_WAIT_MS)
        properties |= {
            # Never joined: librdkafka asks where it is all the same, and may do so for the queue's own.
            "group.id": self._config.names.group,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
        consumer = Consumer(properties, logger=librdkafka_log)
        try:
            # Kafka says at once whether there is such a topic; an assignment alone asks again and again.
            error = consumer.list_topics(self._topic, timeout=METADATA_S).topics[self._topic].error
            if error is not None:
                self._failed(error)
                self._stopping.wait(OFF_BACKOFF_S if self._is_off else BACKOFF_S)
                return
            # That it is at its end a consumer is told with the next empty answer, which a broker holds back.
            place = TopicPartition(self._topic, 0, self._offset)
            first, end = consumer.get_watermark_offsets(place, timeout=METADATA_S)
            consumer.assign([place])
            if end <= max(first, self._offset):
                self._caught_up()
            while not self._stopping.is_set():
                self._turn(consumer)
                if self._offset >= end and not self._known.is_set():
                    self._caught_up()
        finally:
            consumer.close()

    def _turn(self, consumer: Consumer) -> None:
        message = consumer.poll(self._patience_s())
        for each in [message, *consumer.consume(500, 0)] if message is not None else []:
            self._note(each)
        self._tell_unknown()
        orders = self._state.look(now_ms())
        if self._known.is_set():
            self._tell(orders)
            self._bury()

    def _patience_s(self) -> float:
        end_ms = self._state.next_end_ms
        return POLL_S if end_ms is None else min(POLL_S, max(0.0, (end_ms - now_ms()) / 1000))

    def _note(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self._offset = (message.offset() or 0) + 1
            cancelled = self._state.note(message.key() or b"", message.value())
            if cancelled:
                self._new.add(cancelled)
        elif error.code() == KafkaError._PARTITION_EOF:
            self._caught_up()
        else:
            self._failed(error)

    def _caught_up(self) -> None:
        if not self._known.is_set() or self._is_off:
            self._is_off = False
            self._tell(self._state.look(now_ms()))
            self._known.set()

    def _tell(self, orders: Orders) -> None:
        if orders != self.orders:
            self.orders = orders
            _logger.warning("operators ask for this now: %s", orders)
            self._on_orders(orders)
        if self._new:
            new, self._new = frozenset(self._new), set()
            self._on_cancelled(new)

    def _failed(self, error: KafkaError) -> None:
        """Without the topic, or the right to it, nobody can control this worker: that stops no task."""
        self._trouble = error.str()
        rights = on_topic("Read", self._topic), on_group("Describe", self._config.names.group)
        if self._denials.tell(error, "read what operators ask", *rights):
            self._off(f"it may not read {self._topic}")
        elif error.code() in _MISSING:
            self._off(f"there is no topic {self._topic}; `fairlane topics create` makes it")

    def _off(self, why: str) -> None:
        if not self._is_off:
            self._is_off = True
            _logger.warning("this worker cannot be paused, and no task of it cancelled: %s", why)
        self._known.set()

    def _tell_unknown(self) -> None:
        for kind in self._state.unknown - self._told:
            _logger.warning(
                "an operator asks for %.100r, which only a newer fairlane can do: it is not done here", kind
            )
        self._told |= self._state.unknown
        if self._state.overflow and "" not in self._told:
            self._told.add("")
            _logger.error("more was asked in %s than a worker can hold: what is too much is not done", self._topic)

    def _bury(self) -> None:
        """Take back the cancels that have served."""
        while self._served:
            task_id = self._served.popleft()
            if task_id not in self._state.cancels:
                continue
            if self._producer is None:
                properties = self._config.connection.producer(message_timeout_ms=30_000)
                self._producer = Producer(properties, logger=librdkafka_log)
            try:
                self._producer.produce(self._topic, None, key_of(CANCEL, TASK + task_id), on_delivery=self._buried)
            except (BufferError, KafkaException):
                self._served.appendleft(task_id)
                break
        if self._producer is not None:
            self._producer.poll(0)

    def _buried(self, error: KafkaError | None, _: Message) -> None:
        # One that stays binds nothing that is still to come, and ends by itself.
        if error is not None and not (is_denial(error) and self._denials.tell(
            error, "take back a cancel that has served", on_topic("Write", self._topic)
        )):  # fmt: skip
            _logger.info("could not take back a cancel that has served: %s", error.str())
