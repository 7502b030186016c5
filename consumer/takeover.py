"""Take-over of the dead: free what a worker that was killed in mid transaction holds open.

Invariant: only the id of a worker whose heartbeat is older than the session timeout is taken, by the clock of the
brokers: one whose own clock is wrong, or whose handlers hold up its event loop, is not dead, nor is anybody while no
heartbeat at all can be written (heard_time.py). The one that needs no such
wait is an earlier start of this worker, by the same name on the same host, whose process is gone. Initialising an id
again aborts its open transaction at once (0.6 s) instead of after the broker's timeout and scan (9 to 15 s), during
which read_committed readers would wait behind it. Taking the id of one that lives costs that worker all that it has
not settled: it is run again.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.heard_time import HeardTime
from fairlane.consumer.transaction import transactional_properties
from fairlane.topics import events
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.clock import now_ms
from fairlane.topics.denial import Denials, on_topic
from fairlane.topics.events import Heartbeat

_logger = logging.getLogger("fairlane.takeover")

SILENT_MS: Final = 7_000
"""Longer than the session timeout of the consumer group: the group has given its partitions to others by then."""
STALE_MS: Final = 15 * 60_000
"""Transactions of a worker that has been silent for so long have ended by themselves."""
TAKE_TIMEOUT_S: Final = 10.0
BACKOFF_S: Final = 1.0
FETCH_WAIT_MS: Final = 500
"""How long heartbeats are collected before they are read together."""
_LOADED_MS: Final = now_ms()
"""No worker of this process is older."""


def is_first(beats: Mapping[str, Heartbeat], me: str, at_ms: int) -> bool:
    """Whether this worker is the first by name of those that live: the one that does what need not be done twice."""
    alive = [name for name, beat in beats.items() if beat.state != "stopped" and at_ms - beat.at_ms < SILENT_MS]
    return min([*alive, me]) == me


def to_take(beats: Mapping[str, Heartbeat], me: str, at_ms: int) -> list[Heartbeat]:
    """The dead whose transactions this worker ends: all of them, if it is the first by name of those that live.

    Args:
        beats: the newest heartbeat of every worker.
        me: name of this worker.
        at_ms: Unix ms.
    """
    if not is_first(beats, me, at_ms):
        return []
    return [
        beat
        for name, beat in beats.items()
        if name != me
        and beat.transactional_id
        and beat.state != "stopped"
        and SILENT_MS <= at_ms - beat.at_ms < STALE_MS
    ]


def is_gone(beat: Heartbeat, host: str, runs: Callable[[int], bool]) -> bool:
    """Whether the process of a heartbeat has ended, as far as this host can tell.

    Where each start of a worker has the same pid, as in a container, it is the time of its start that tells.

    Args:
        beat: of an earlier start of this worker: a name is of one living worker only, so its pid is of this host too.
        host: name of this host.
        runs: whether a process of this host has a pid.
    """
    if beat.host != host or beat.pid <= 0:
        return False
    return beat.started_ms < _LOADED_MS if beat.pid == os.getpid() else not runs(beat.pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


class TakeOver:
    """Owns a thread and a consumer without a group that follow the heartbeats.

    Args:
        config: of the worker.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._beats: dict[str, Heartbeat] = {}
        """The newest of each worker."""
        self._earlier: dict[str, Heartbeat] = {}
        """The last of starts that another one of the same name came after, by their transactional id."""
        self._time = HeardTime(STALE_MS)
        self._now_ms = 0
        """The newest time in the topic: ours are in it every second, and no two clocks are compared."""
        self._is_at_end = False
        self._denials = Denials(config.connection, _logger)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fairlane-takeover", daemon=True)

    @property
    def first(self) -> bool:
        """Whether this worker is the one that does what need not be done twice."""
        return is_first(dict(self._beats), self._config.worker, self._now_ms)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        # Every worker follows those of all: answered for each one, a hundred workers would fetch 10,000 times a second.
        properties = self._config.connection.consumer(
            isolation_level="read_uncommitted", fetch_min_bytes=1_000_000, fetch_wait_max_ms=FETCH_WAIT_MS
        )
        properties |= {
            # Never joined: librdkafka asks where it is all the same, and may do so for the queue's own.
            "group.id": self._config.names.group,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
        consumer = Consumer(properties, logger=librdkafka_log)
        try:
            consumer.assign([TopicPartition(self._config.names.workers, 0, OFFSET_BEGINNING)])
            while not self._stopping.is_set():
                try:
                    self._follow(consumer)
                except Exception:
                    # Nobody else's transactions are worth a worker; the next look may succeed.
                    _logger.exception("could not follow the heartbeats")
                    self._stopping.wait(BACKOFF_S)
        finally:
            consumer.close()

    def _follow(self, consumer: Consumer) -> None:
        message = consumer.poll(0.5)
        for each in [message, *consumer.consume(500, 0)] if message is not None else []:
            self._note(each)
        if self._is_at_end:
            # Only once all of it was read: an old heartbeat is not the newest one.
            self._take(to_take(self._beats, self._config.worker, self._now_ms))
            self._take_earlier()

    def _note(self, message: Message) -> None:
        error, value = message.error(), message.value()
        if error is not None:
            self._is_at_end |= error.code() == KafkaError._PARTITION_EOF
            self._denials.tell(error, "read the heartbeats", on_topic("Read", self._config.names.workers))
            return
        beat = events.decode_heartbeat(value) if value is not None else None
        if beat is not None:
            heard_ms = self._time.of(message.timestamp()[1])
            before = self._beats.get(beat.worker)
            if before is not None and before.transactional_id != beat.transactional_id and before.state != "stopped":
                self._earlier[before.transactional_id] = before
            self._earlier.pop(beat.transactional_id, None)
            self._beats[beat.worker] = msgspec.structs.replace(beat, at_ms=heard_ms)
            self._now_ms = max(self._now_ms, heard_ms)

    def _take(self, dead: Iterable[Heartbeat]) -> None:
        for beat in dead:
            self._end(beat)
            self._bury(beat)

    def _take_earlier(self) -> None:
        """End what earlier starts left open; their names live on, so there is nobody to bury."""
        for beat in list(self._earlier.values()):
            silent_ms = self._now_ms - beat.at_ms
            is_mine = beat.worker == self._config.worker
            if silent_ms >= STALE_MS:
                del self._earlier[beat.transactional_id]
            elif (is_mine and is_gone(beat, socket.gethostname(), _runs)) or (silent_ms >= SILENT_MS and self.first):
                self._end(beat)
                del self._earlier[beat.transactional_id]

    def _end(self, beat: Heartbeat) -> None:
        # Anybody may write a heartbeat; an id that is not of this queue's workers is nobody's business here.
        if beat.transactional_id.startswith(f"{self._config.names.group}-"):
            _end_transaction(self._config, beat.transactional_id, self._stopping.is_set)

    def _bury(self, beat: Heartbeat) -> None:
        """Say that it is gone, so that nobody takes it again; its counters stay."""
        gone = msgspec.structs.replace(beat, state="stopped", running=0, running_tasks=(), partitions=())
        self._beats[beat.worker] = gone
        producer = Producer(self._config.connection.producer(message_timeout_ms=5_000), logger=librdkafka_log)
        producer.produce(self._config.names.workers, events.encode(gone), beat.worker.encode())
        producer.flush(5.0)


def _end_transaction(config: WorkerConfig, transactional_id: str, stopping: Callable[[], bool]) -> None:
    if stopping():
        return
    try:
        Producer(
            transactional_properties(config.connection, transactional_id), logger=librdkafka_log
        ).init_transactions(TAKE_TIMEOUT_S)
        _logger.info("ended what a dead worker left open", extra={"transactional_id": transactional_id})
    except KafkaException as error:
        _logger.info("could not end what %s left open: %s", transactional_id, error.args[0])
