"""Follows the topics of a queue and writes what they say into its store, for as long as it is told to.

Invariant: one thread reads and writes, in no consumer group; where it goes on is what the store says, so a process that
dies at any moment reads again what its last transaction did not cover, and nothing else.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fairlane.monitor import discovery
from fairlane.monitor.errors import StoreBroken
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.scan import BEGINNING, Partition, committed, reaching
from fairlane.monitor.store.batch import Batch
from fairlane.monitor.store.database import Database
from fairlane.monitor.store.keeping import Keep, Keeper
from fairlane.monitor.store.topic_ids import TopicIds
from fairlane.monitor.store.writer import write
from fairlane.topics.client_log import librdkafka_log
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.denial import on_topic
from fairlane.topics.errors import FairlaneError, QueueUnknown
from fairlane.topics.names import Lane, QueueNames

_log = logging.getLogger("fairlane.monitor")

BATCH: Final = 10_000
WORKERS_KEPT_MS: Final = 3_600_000
_WAIT_S: Final = 0.2
_GATHER_S: Final = 0.02
"""How long a batch gathers: a transaction for each record would cost more than the records."""
_LOOK_S: Final = 10.0
_WATERMARKS_S: Final = 5.0
_UNREAD_S: Final = 1.0
_KEEP_S: Final = 1.0
_RETRY_S: Final = 1.0
_MARGIN_MS: Final = 300_000


@dataclass
class Progress:
    """How far the follower is; written by its thread only."""

    records: int = 0
    """Read since it was started."""
    rows: int = 0
    """Rows of tasks made or changed."""
    forgotten: int = 0
    caught_up: bool = False
    """Whether each partition was read to the end that it had at some time since the start."""
    problem: str = ""
    """Why it does not get on now; "" if it does."""
    written_ms: int = 0
    """When it last wrote, Unix ms."""
    unread: int = 0
    """Records, markers included, that are in the topics and not in the store, as far as Kafka has told."""
    watermarks: Mapping[Partition, int] = field(default_factory=dict)
    """Offsets below which all is settled and what was told of it is in the store."""


class Follower:
    """Reads a queue's topics into a store.

    Args:
        connection: to the cluster.
        names: of the queue.
        database: its store; this is its only writer.
        keep: how much is kept.
        wrote: called by the thread after each transaction that changed something.
        timeout_s: how long one answer of Kafka's may take, seconds.
    """

    def __init__(
        self,
        connection: Connection,
        names: QueueNames,
        database: Database,
        keep: Keep,
        *,
        wrote: Callable[[Batch], None] | None = None,
        timeout_s: float = 10,
    ) -> None:
        self._connection = connection
        self._names = names
        self._database = database
        self._keep = keep
        self._wrote = wrote
        self._timeout_s = timeout_s
        self._offsets = Offsets(connection, timeout_s=timeout_s)
        self._ids = TopicIds(connection, timeout_s=timeout_s)
        self._consumer = Consumer(
            connection.consumer(
                # Its commits are asked for and never made: the group is not joined.
                group_id=names.group,
                enable_partition_eof=True,
                auto_offset_reset="earliest",
                queued_max_messages_kbytes=32_768,
            ),
            logger=librdkafka_log,
        )
        self._keeper = Keeper(database.writer, keep)
        self._lanes: dict[str, Lane] = {}
        self._assigned: set[Partition] = set()
        self._unread: set[Partition] = set()
        self._positions: dict[Partition, int] = {}
        self._asked: tuple[Mapping[Partition, int], Mapping[Partition, int]] | None = None
        """Watermarks, and the ends of the status topic as they were after these."""
        self._next = {"look": 0.0, "watermarks": 0.0, "unread": 0.0, "keep": 0.0}
        self._gained = 0
        self.progress = Progress()

    def run(self, stop: threading.Event, *, until_caught_up: bool = False) -> None:
        """Follow until `stop` is set. Problems of Kafka are waited out; others end it.

        Args:
            stop: asks it to end.
            until_caught_up: end too when all was read to the end that it had.
        """
        while not stop.is_set() and not (until_caught_up and self.progress.caught_up):
            try:
                self.step()
                self.progress.problem = ""
            except (FairlaneError, sqlite3.OperationalError) as error:
                if isinstance(error, QueueUnknown) and not self.progress.records:
                    raise
                if self.progress.problem != str(error):
                    _log.warning("the store does not get on: %s", error)
                self.progress.problem = str(error)
                self._begin_anew()
                stop.wait(_RETRY_S)
            except sqlite3.DatabaseError as error:
                raise StoreBroken(str(self._database.path), str(error)) from error

    @property
    def unread(self) -> int:
        """How many partitions were not read to their end yet."""
        return len(self._unread)

    def close(self) -> None:
        """Close the connection; the store stays open."""
        self._consumer.close()

    def step(self) -> None:
        """Look up what there is from time to time; read some, write it, forget some."""
        if self._due("look", _LOOK_S):
            self._look()
        if self._asked is None and self._due("watermarks", _WATERMARKS_S):
            self._ask_watermarks()
        batch = self._read()
        if batch.positions:
            rows = write(self._database.writer, batch)
            self._note(batch, rows)
        if self._due("unread", _UNREAD_S):
            self.progress.unread = self._count_unread()
        if self._due("keep", _KEEP_S):
            self.progress.forgotten += self._keeper.step(now_ms(), self.progress.watermarks, self._gained)
            self._gained = 0

    def _begin_anew(self) -> None:
        """Read on from what was written: of what was read since, nobody knows how much was."""
        self._consumer.unassign()
        self._assigned = set()
        self._next["look"] = 0.0

    def _due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._next[what]:
            return False
        self._next[what] = now + every_s
        return True

    def _note(self, batch: Batch, rows: int) -> None:
        progress = self.progress
        self._gained += rows
        progress.records += batch.records
        progress.rows += rows
        progress.written_ms = now_ms()
        self._unread -= batch.at_end
        progress.caught_up = progress.caught_up or not self._unread
        self._positions |= batch.positions
        self._note_watermarks()
        if batch.records and self._wrote is not None:
            self._wrote(batch)

    def _read(self) -> Batch:
        batch = Batch(self._names, self._lanes)
        with reaching(self._connection, self._timeout_s, f"read the topics of {self._names.queue}"):
            first = self._consumer.poll(_WAIT_S)
            messages: list[Message] = [] if first is None else [first]
            if first is not None:
                ends_at = time.monotonic() + _GATHER_S
                while len(messages) < BATCH and (left_s := ends_at - time.monotonic()) > 0:
                    messages += self._consumer.consume(BATCH - len(messages), left_s)
        for message in messages:
            batch.add(message)
            self._raise_for(message)
        return batch

    def _raise_for(self, message: Message) -> None:
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF or error.retriable():
            return
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC):
            self._next["look"] = 0.0
            return
        topic = message.topic() or ""
        with reaching(self._connection, self._timeout_s, f"read {topic}", on_topic("Read", topic)):
            raise KafkaException(error)

    def _look(self) -> None:
        """Take in topics and partitions that are new, and begin anew where one is another one than before."""
        topics = self._offsets.topics(self._names)
        if self._names.status not in topics:
            raise QueueUnknown(self._names.queue, self._names.status, self._connection.bootstrap)
        read = self._read_by_workers()
        self._offsets.require(read - topics.keys())
        lanes = discovery.lanes_of(self._names, topics, read)
        tiers = {self._names.tier(tier) for tier in discovery.tiers_of(self._names, topics)}
        self._lanes = {lane.topic: lane for lane in lanes}
        names = self._names
        wanted = {*self._lanes, *tiers, names.status, names.dlq, names.audit, names.workers} & set(topics)
        self._compare_ids(wanted)
        partitions = {(topic, number) for topic in wanted for number in range(topics[topic])}
        with reaching(self._connection, self._timeout_s, "hand out partitions"):
            if gone := self._assigned - partitions:
                self._consumer.incremental_unassign([TopicPartition(*each) for each in gone])
            if new := partitions - self._assigned:
                starts = self._starts(new)
                self._positions |= starts
                self._consumer.incremental_assign([TopicPartition(*each, starts[each]) for each in new])
        self._unread = (self._unread | new) - gone
        self._assigned = partitions
        self._forget_gone({each for each in partitions if each[0] == names.dlq})

    def _forget_gone(self, dlq: set[Partition]) -> None:
        """Letters that were purged, and workers that Kafka forgets about now."""
        writer = self._database.writer
        starts = self._offsets.starts(dlq)
        with writer:
            writer.executemany(
                "DELETE FROM letters WHERE partition = ? AND at < ?", [(each[1], at) for each, at in starts.items()]
            )
            writer.execute("DELETE FROM workers WHERE at_ms < ?", (now_ms() - WORKERS_KEPT_MS,))

    def _compare_ids(self, wanted: set[str]) -> None:
        writer = self._database.writer
        ids = self._ids.of(wanted)
        known = dict(writer.execute("SELECT topic, id FROM topics WHERE topic != ''").fetchall())
        if any(known[topic] != found for topic, found in ids.items() if topic in known):
            _log.warning("topics of queue %s were made again: the store is filled anew", self._names.queue)
            self._begin_anew()
            self._database.empty()
            known = {}
        with writer:
            writer.executemany(
                "INSERT INTO topics VALUES (?, ?)", [each for each in ids.items() if each[0] not in known]
            )

    def _read_by_workers(self) -> set[str]:
        """Topics that the workers hold partitions of, as far as the store knows: foreign lanes are among them."""
        rows = self._database.writer.execute(
            "SELECT DISTINCT value FROM workers, json_each(CAST(beat AS TEXT), '$.partitions')"
        )
        return {partition.rpartition("/")[0] for (partition,) in rows}

    def _starts(self, partitions: set[Partition]) -> dict[Partition, int]:
        """Where to go on; of what is not known, from what is kept by time on, and from all that is not settled."""
        rows = self._database.writer.execute("SELECT topic, partition, next_offset FROM positions")
        known = {(topic, number): offset for topic, number, offset in rows}
        starts = {each: known[each] for each in partitions if each in known}
        new = partitions - starts.keys()
        names = self._names
        whole = {each for each in new if each[0] in (names.dlq, names.audit, names.workers)}
        starts |= dict.fromkeys(whole, BEGINNING)
        if aged := new - whole:
            since = self._offsets.since(aged, self._keep.since_ms(now_ms()) - _MARGIN_MS)
            recent = self._offsets.ends(aged) | since
            marks = self._commits(each for each in aged if each[0] != names.status)
            starts |= {
                each: min(start, marks.get(each, BEGINNING)) if each[0] != names.status else start
                for each, start in recent.items()
            }
        return starts

    def _commits(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        answered = committed(self._consumer, self._connection, self._names.group, partitions, self._timeout_s)
        return {(each.topic, each.partition): each.offset for each in answered if not each.error and each.offset >= 0}

    def _count_unread(self) -> int:
        """By the ends that came with what was fetched: Kafka is not asked for it."""
        unread = 0
        for partition in self._assigned:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
            unread += max(0, end - max(0, self._positions.get(partition, end)))
        return unread

    def _ask_watermarks(self) -> None:
        names = self._names
        others = (names.status, names.dlq, names.audit, names.workers)
        watermarks = self._commits(each for each in self._assigned if each[0] not in others)
        # Whatever is settled below these is told before the ends that are asked for now.
        self._asked = watermarks, self._offsets.ends(each for each in self._assigned if each[0] == names.status)

    def _note_watermarks(self) -> None:
        if self._asked is None or not self.progress.caught_up:
            return
        watermarks, told = self._asked
        if all(self._positions.get(partition, 0) >= end for partition, end in told.items()):
            self.progress.watermarks = watermarks
            self._asked = None
