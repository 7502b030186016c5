"""The reader: one thread, the only one that ever calls the Kafka consumer.

Invariant: it never waits for work, so a task may run for hours; it waits only at a revocation, for a bounded time, so
that what is being settled is settled before the partition has a new owner. After every poll it publishes one frozen
lease. Everybody else hands it messages.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fairlane.consumer import to_settler
from fairlane.consumer.assignment import NO_LEASE, Assignment, Lease
from fairlane.consumer.config import TIERS_ACCOUNT, WorkerConfig
from fairlane.consumer.delivery import Assigned, Partition
from fairlane.consumer.feed import Feed
from fairlane.consumer.flow import Flow, limits_by_weight
from fairlane.consumer.intake import Intake
from fairlane.consumer.positions import Position, Positions, PositionsUnknown, as_before
from fairlane.consumer.read_trouble import ReadTrouble
from fairlane.consumer.remedies import Remedies, code_of
from fairlane.consumer.settler import Settler
from fairlane.consumer.turns import FETCH_BYTES, Limit
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.clock import now_ms

_logger = logging.getLogger("fairlane.reader")

BATCH_MAX: Final = 500
RESOLVE_S: Final = 15.0
"""How long a beginning waits for a transaction of ours that may still change what is committed."""
LOOK_S: Final = 0.1
"""How often whoever waits so looks whether the worker ends."""
POLL_S: Final = 0.1
POLL_HELD_BACK_S: Final = 0.005
REJOIN_BACKOFF_S: Final = 1.0
_LOST_FOR_GOOD: Final = (KafkaError._FATAL, KafkaError.UNRELEASED_INSTANCE_ID, KafkaError.FENCED_INSTANCE_ID)


class ConsumerLost(Exception):
    """The consumer can do no more and is made anew: it was fenced, or its instance id is not free yet.

    Attributes:
        code: Kafka's name of the error, where there was one.
    """

    def __init__(self, cause: str, code: str = "") -> None:
        super().__init__(cause)
        self.code = code


class Reader:
    """Owns the reading thread, the consumer, and which partitions are held.

    Args:
        config: of the worker.
        settler: is told what was read, before anybody can have an outcome for it.
        feed: takes the tasks.
        on_crash: told of an error that is a bug; the worker must end.
    """

    def __init__(
        self, config: WorkerConfig, settler: Settler, feed: Feed, *, on_crash: Callable[[BaseException], None]
    ) -> None:
        self._config = config
        self._settler = settler
        self._feed = feed
        self._on_crash = on_crash
        self._assignment = Assignment()
        weights = {lane.topic: lane.weight for lane in config.lanes}
        limits = limits_by_weight(weights, config.buffer_records)
        limits[TIERS_ACCOUNT] = Limit(config.delayed_max, config.delayed_max // 2)
        self._flow = Flow(limits, config.buffer_bytes, weights, config.buffer_records)
        self._intake = Intake(config, self._flow, settler)
        self.events = self._intake.events
        self._commands: deque[Callable[[Consumer], None]] = deque()
        self._stopping = threading.Event()
        self._draining = False
        self._trouble = ReadTrouble(Remedies(config.names, config.connection))
        self._thread = threading.Thread(target=self._run, name="fairlane-reader", daemon=True)
        self.lease: Lease = NO_LEASE
        self.last_poll = self.held_since = time.monotonic()
        self.rejoins = 0
        self.rebalances: Counter[str] = Counter()
        """How often the group gave partitions, took them in good order, and took them without a word."""

    def start(self) -> None:
        """Start the thread."""
        self.last_poll = self.held_since = time.monotonic()
        self._thread.start()

    def drain(self) -> None:
        """Take no new record from now on, and stay a member of the group."""
        self._commands.append(self._pause_all)

    def begin_anew(self) -> None:
        """Everything read so far is void: read it again, under new epochs, from what is committed."""
        self._commands.append(self._reset)

    def obey(self, held: frozenset[str], weights: Mapping[str, int]) -> None:
        """Read nothing from now on of the accounts that are paused, and lanes by these weights; any thread."""

        def obeyed(_: Consumer) -> None:
            self._flow.hold(held)
            self._flow.weigh(weights)

        self._commands.append(obeyed)

    def stop(self, timeout_s: float) -> bool:
        """Leave the group in good order; whether that was done in time."""
        self._stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def held(self) -> list[Assigned]:
        """The partitions of lanes and tiers that this process holds."""
        return [each for each in self._assignment.held if each.topic != self.events.topic]

    @property
    def intake(self) -> Intake:
        """What was read; from other threads only to look."""
        return self._intake

    @property
    def received(self) -> dict[str, int]:
        """Tasks that were read since the beginning, by account."""
        return self._flow.total

    def waiting(self) -> dict[str, int]:
        """Those that were not taken yet, by account; any thread."""
        taken = self._feed.taken
        return {account: max(0, count - taken[account]) for account, count in self.received.items()}

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._read()
                except (ConsumerLost, PositionsUnknown) as lost:
                    if self._stopping.is_set():
                        _logger.info("ending before Kafka said where to begin")
                        break
                    self.rejoins += 1
                    code = lost.code if isinstance(lost, ConsumerLost) else ""
                    self._trouble.lost(lost, code, time.monotonic())
                    self._forget(self._intake.partitions)
                    self._stopping.wait(REJOIN_BACKOFF_S)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
            self._on_crash(error)

    def _read(self) -> None:
        consumer = Consumer(self._properties(), logger=librdkafka_log)
        topics = [*(lane.topic for lane in self._config.lanes), *self._config.tier_of(), *self.events.topics]
        try:
            consumer.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
            while not self._stopping.is_set():
                self._turn(consumer)
        finally:
            # Leaving calls on_revoke, which settles what is open; a consumer that was lost has nothing to settle.
            consumer.close()

    def _properties(self) -> dict[str, Any]:
        properties = self._config.connection.consumer(
            # A tenth of a second is what a paused and resumed partition waits at most for its next fetch.
            fetch_wait_max_ms=100,
            # What is fetched waits in one queue, in front of more urgent lanes; what is paused then is thrown away.
            fetch_message_max_bytes=FETCH_BYTES,
            queued_min_messages=2_000,
            queued_max_messages_kbytes=16_384,
        )
        properties |= {
            "group.id": self._config.names.group,
            # KIP-848: the classic protocol with cooperative-sticky lost track under restarts (22,926 duplicates of
            # 120,000). `range` gives every worker the same partitions of every lane, so that each can put p5 first.
            "group.protocol": "consumer",
            "group.remote.assignor": "range",
            "enable.partition.eof": True,
            # Never a silent jump: where offsets are out of range, Intake decides and says so.
            "auto.offset.reset": "error",
            "max.poll.interval.ms": 300_000,
        }
        if self._config.instance_id is not None:
            properties["group.instance.id"] = self._config.instance_id
        return properties

    def _turn(self, consumer: Consumer) -> None:
        while self._commands:
            self._commands.popleft()(consumer)
        batch = self._poll(consumer)
        self.last_poll = time.monotonic()
        # Before anything of the batch is handed on: an outcome that no lease holds yet would be dropped as a stale one.
        self.lease = self._assignment.lease(consumer.consumer_group_metadata())
        self._take(batch, consumer)
        if not self._draining:
            self._regulate(consumer)
        self._feed.begin_when(self._intake.caught_up)

    def _poll(self, consumer: Consumer) -> list[Message]:
        try:
            # poll and then drain what is there: consume(n, t) alone waits for n or t.
            message = consumer.poll(self._patience_s())
            if message is None:
                self._flow.nothing_came()
                return []
            partition: Partition = (message.topic() or "", message.partition() or 0)
            assigned = self._assignment.get(*partition)
            rest = consumer.consume(BATCH_MAX, 0)
            # Meanwhile the group may have taken the partition and given it back: what came before is read again then.
            return [message, *rest] if self._assignment.get(*partition) is assigned else rest
        except KafkaException as error:
            raise ConsumerLost(f"the consumer was lost: {error.args[0].str()}", code_of(error.args[0])) from error

    def _patience_s(self) -> float:
        if self._draining:
            # Nothing is resumed any more, so what is due is no reason to look again.
            return POLL_S
        patience_s = POLL_HELD_BACK_S if self._flow.held_back else POLL_S
        due_ms = self._flow.next_due_ms
        if due_ms is not None:
            patience_s = min(patience_s, max(0.0, (due_ms - now_ms()) / 1000))
        return patience_s

    def _take(self, messages: list[Message], consumer: Consumer) -> None:
        records: dict[Partition, list[Message]] = {}
        anew: set[Partition] = set()
        partition: Partition = ("", -1)
        run: list[Message] = []
        for message in messages:
            topic, number = message.topic() or "", message.partition() or 0
            if number != partition[1] or topic != partition[0]:
                # A batch is made of runs: one look at the books for each.
                partition = (topic, number)
                run = records.setdefault(partition, [])
            error = message.error()
            if error is None:
                run.append(message)
            elif partition in anew:
                continue
            elif error.code() == KafkaError._PARTITION_EOF:
                # Records of this partition in the batch come before its end.
                self._hand_on(self._assignment.get(*partition), run)
                run = records[partition] = []
                self._intake.reached_end(self._assignment.get(*partition), message.offset() or 0, now_ms())
            elif self._failed(error, partition, consumer):
                anew.add(partition)
        for partition, batch in records.items():
            if batch and partition not in anew:  # What was read of those was read under an epoch that is over.
                self._hand_on(self._assignment.get(*partition), batch)

    def _hand_on(self, assigned: Assigned | None, batch: list[Message]) -> None:
        if assigned is None or self.events.take(assigned, batch):
            return
        if batch:
            self._flow.came(assigned.key, len(batch))
        deliveries = self._intake.take(assigned, batch, now_ms())
        if deliveries:
            self._feed.post(deliveries)

    def _regulate(self, consumer: Consumer) -> None:
        self._flow.relieve(self._intake.relieved(self._settler.progress), now_ms())
        # What is held goes first: it came before anything that a resumed partition brings.
        for assigned in self._intake.holding():
            self._hand_on(assigned, [])
        feed = self._feed
        taken_bytes = feed.taken_bytes + feed.places.paused_bytes
        pause, resume = self._flow.update(feed.taken, taken_bytes, self._settler.backlog_bytes)
        self.events.look(pause, resume)
        if pause:
            consumer.pause([TopicPartition(*partition) for partition in pause])
        try:
            for partition, offset in self._intake.read_again():
                consumer.seek(TopicPartition(*partition, offset))
        except KafkaException as error:
            raise ConsumerLost(f"could not read again: {error}") from error
        if resume:
            consumer.resume([TopicPartition(*partition) for partition in resume])

    def _pause_all(self, consumer: Consumer) -> None:
        self._draining = True
        consumer.pause(consumer.assignment())

    def _failed(self, error: KafkaError, partition: Partition, consumer: Consumer) -> bool:
        """Deal with an error; whether the partition begins anew because of it."""
        # The flag `fatal` is never set on the error of a message: there it is a code.
        if error.fatal() or error.code() in _LOST_FOR_GOOD:
            raise ConsumerLost(f"the consumer was lost: {error.str()}", code_of(error))
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001
            if self._assignment.get(*partition) is not None:
                self._begin_anew(consumer, [partition])
            return True
        self._trouble.failed(error, partition[0], time.monotonic())
        return False

    # What the group coordinator says; called from within poll and close, on this thread.

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.rebalances["assigned"] += 1
        self._begin(consumer, [(each.topic, each.partition) for each in partitions], {})

    def _begin(self, consumer: Consumer, partitions: list[Partition], before: Mapping[Partition, Position]) -> None:
        """Take partitions under new epochs, from what is committed; `before` has those that were ours already."""
        self._await(self._settler.resolved.wait, "what the settler left open is not resolved yet")
        positions = Positions(self._config, consumer).find(partitions, self._stopping.is_set)
        starts = []
        paused, resumed = list[TopicPartition](), list[TopicPartition]()
        for assigned in self._assignment.assign(partitions):
            position = positions[assigned.key]
            if assigned.key in before:
                position = as_before(position, before[assigned.key])
            start = TopicPartition(assigned.topic, assigned.partition, position.start)
            starts.append(start)
            starts_paused = self._intake.opened(assigned, position)
            if assigned.topic != self.events.topic:
                # After the settler heard of it: what the feed wants committed of it goes to the settler's books.
                self._feed.take_over(assigned, position.restored, position.end)
            (paused if starts_paused or self._draining else resumed).append(start)
        if before:
            for start in starts:
                consumer.seek(start)
        else:
            consumer.incremental_assign(starts)
        # Pause state survives a partition's round trip to another worker: say it for every one.
        if paused:
            consumer.pause(paused)
        if resumed:
            consumer.resume(resumed)
        self.held_since = time.monotonic()
        self._trouble.over(self.held_since)
        _logger.info("assigned %d partitions", len(partitions), extra={"held": len(self._assignment.held)})

    def _await(self, is_so: Callable[[float], bool], otherwise: str) -> None:
        ends_at = time.monotonic() + RESOLVE_S
        while not is_so(LOOK_S):
            if self._stopping.is_set() or time.monotonic() >= ends_at:
                raise PositionsUnknown(otherwise)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.rebalances["revoked"] += 1
        going = [(each.topic, each.partition) for each in partitions]
        closing = self._assignment.close(going)
        ends_at = time.monotonic() + self._config.revoke_grace_s
        if closing:
            # Running attempts get a bounded time; what had not started is read again by the next owner.
            self._feed.revoke(closing, self._config.revoke_grace_s)
            done = threading.Event()
            self._settler.post(to_settler.Closing(tuple(closing), done))
            if not done.wait(max(1.0, ends_at - time.monotonic())):
                _logger.warning("%d partitions left before everything in them was settled", len(closing))
        self._leave(going, closing)
        consumer.incremental_unassign(partitions)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Somebody else has them already: nothing of theirs may be settled any more."""
        self.rebalances["lost"] += 1
        going = [(each.topic, each.partition) for each in partitions]
        _logger.warning("lost %d partitions", len(going))
        self._forget(going)
        consumer.incremental_unassign(partitions)

    def _forget(self, going: list[Partition]) -> None:
        lost = self._assignment.close(going)
        self._feed.revoke(lost, 0)
        self._leave(going, lost)

    def _leave(self, going: list[Partition], closing: list[Assigned]) -> None:
        """The barrier: after this no transaction commits offsets of what left, or only those it had sent before.

        One that is open for longer than the grace finds out by the lease, before it commits.
        """
        self._assignment.gone(going)
        self.held_since = time.monotonic()
        self._intake.gone(closing)
        self.lease = self._assignment.lease(self.lease.metadata)
        self._settler.post(to_settler.Dropped(tuple(closing)))
        if not self._settler.wait_past(self.lease.number, self._config.revoke_grace_s):
            _logger.warning("a settlement was still open when its partitions left")

    def _reset(self, consumer: Consumer) -> None:
        self._begin_anew(consumer, [assigned.key for assigned in self._assignment.held])

    def _begin_anew(self, consumer: Consumer, partitions: list[Partition]) -> None:
        """What was read of these is void: read it again, under new epochs, from what is committed."""
        before = self._intake.positions()
        self._forget(partitions)
        # They stay ours, so the group would take the offsets of a settlement that is open still, after we asked for
        # them. One that does not end costs the membership: those of a member that has left are refused.
        self._await(partial(self._settler.wait_past, self.lease.number), "a settlement is still open")
        try:
            self._begin(consumer, partitions, before)
        except KafkaException as error:
            raise ConsumerLost(f"could not begin anew: {error}") from error
