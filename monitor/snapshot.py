"""Collects what a queue looks like now: from offsets, heartbeats and the heads of its lanes and tiers.

Invariant: it only reads, as nobody's member; a Watcher asks and reads each thing once a snapshot, over connections that
it keeps, and goes on where it was: what it costs depends on what changed, not on what there is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Self

from msgspec.structs import replace

from fairlane.monitor import discovery
from fairlane.monitor.backlog import Backlog
from fairlane.monitor.errors import ReadIncomplete
from fairlane.monitor.offsets import Offsets
from fairlane.monitor.roster import RATE_WINDOW_MS, Roster, mean_of
from fairlane.monitor.scan import BEGINNING, Commit, Partition, Scanner, Span
from fairlane.monitor.standing import Standing
from fairlane.monitor.stats import RunningStats, Stats, TopicStats, WorkerStats
from fairlane.monitor.taken import Taken, map_of
from fairlane.topics.audit import decode_audit
from fairlane.topics.connection import Connection
from fairlane.topics.control import PAUSE, WEIGHT
from fairlane.topics.errors import MalformedRecord, QueueUnknown
from fairlane.topics.events import HEARTBEAT_GONE_MS, decode_heartbeat, is_newer
from fairlane.topics.names import Lane, QueueNames, Tier
from fairlane.topics.task import Origin

TOPICS_REFRESHED_MS: Final = 10_000
"""Topics and partitions come and go rarely: they are looked up again after so long."""

_HEADS_FETCH_BYTES: Final = 65_536


def collect(
    connection: Connection,
    names: QueueNames,
    lanes: Sequence[Lane] | None = None,
    tiers: Sequence[Tier] | None = None,
    *,
    now_ms: int,
    timeout_s: float = 10,
) -> Stats:
    """One snapshot of a queue.

    Args:
        connection: to the cluster.
        names: of the queue.
        lanes: its lanes; those that are found by default.
        tiers: its tiers; those that are found by default.
        now_ms: Unix ms.
        timeout_s: how long one answer of Kafka's may take, seconds.

    Raises:
        KafkaUnreachable: no broker answered.
        QueueUnknown: none of the queue's topics exists.
    """
    with Watcher(connection, names, lanes, tiers, timeout_s=timeout_s) as watcher:
        return watcher.collect(now_ms)


class Watcher:
    """Takes snapshots of one queue again and again over connections that it keeps open.

    Not for several threads at once.

    Args:
        connection: to the cluster.
        names: of the queue.
        lanes: its lanes; those that are found by default.
        tiers: its tiers; those that are found by default.
        timeout_s: how long one answer of Kafka's may take, seconds.
    """

    def __init__(
        self,
        connection: Connection,
        names: QueueNames,
        lanes: Sequence[Lane] | None = None,
        tiers: Sequence[Tier] | None = None,
        *,
        timeout_s: float = 10,
    ) -> None:
        self._connection = connection
        self._names = names
        self._given = (lanes, tiers)
        self._offsets = Offsets(connection, timeout_s=timeout_s)
        self._log = Scanner(connection, timeout_s=timeout_s, group=names.group)
        self._heads = Scanner(
            connection, timeout_s=min(2.0, timeout_s), group=names.group, fetch_bytes=_HEADS_FETCH_BYTES, ahead=100
        )
        self._topics: dict[str, int] = {}
        self._topics_ms = -TOPICS_REFRESHED_MS
        self._roster = Roster()
        self._standing = Standing(names)
        self._newer: dict[str, int] = {}
        """When a worker was last heard of whose heartbeats a newer fairlane writes, Unix ms."""
        self._replayed: set[tuple[str, int, int]] = set()
        self._backlog = Backlog()
        # Ends of partitions over the last ten seconds: how fast they grow is how fast tasks come.
        self._ends: deque[tuple[int, Mapping[Partition, int]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._log.close()
        self._heads.close()

    def collect(self, now_ms: int, *, every_worker: bool = False) -> Stats:
        """The queue at `now_ms`.

        Args:
            now_ms: Unix ms.
            every_worker: name also the workers that have stopped, or were lost long ago.

        Raises:
            KafkaUnreachable: no broker answered.
            QueueUnknown: none of the queue's topics exists.
        """
        self._look_up_topics(now_ms)
        self._follow()
        shown = self._shown()
        partitions = self._partitions([one.topic for one in shown])
        # The commits first: an end that is older than a commit would make a length negative.
        committed = self._log.commits(each for each in partitions if each[0] != self._names.dlq)
        starts, ends = self._offsets.starts(partitions), self._offsets.ends(partitions)
        unread = {lane.topic for lane in self._given[0] or () if lane.start == "latest"}
        spans = {
            partition: (_watermark(partition, committed, starts, ends, unread), ends[partition])
            for partition in partitions
        }
        running = self._roster.running(now_ms)
        taken = self._taken(committed, ends, running)
        self._read_heads(spans, taken)
        growth = self._growth(ends, now_ms)
        measured = [self._measured(one, spans, taken, growth, now_ms) for one in shown]
        self._replayed = {letter for letter in self._replayed if starts.get(letter[:2], 0) <= letter[2]}
        lag = {f"{topic}/{number}": end - mark for (topic, number), (mark, end) in spans.items()}
        workers = self._roster.workers(now_ms, lag, every=every_worker)
        return self._stats(measured, running, workers, now_ms)

    def _look_up_topics(self, now_ms: int) -> None:
        if not self._topics or now_ms - self._topics_ms >= TOPICS_REFRESHED_MS:
            self._topics, self._topics_ms = self._offsets.topics(self._names), now_ms

    def _shown(self) -> list[TopicStats]:
        """The lanes, tiers and DLQ that there are, without their numbers."""
        names, (lanes, tiers) = self._names, self._given
        if lanes is None:
            read = self._roster.topics_read()
            self._offsets.require(read - self._topics.keys())
            lanes = discovery.lanes_of(names, self._topics, read)
        if tiers is None:
            tiers = discovery.tiers_of(names, self._topics)
        if not any(lane.topic in self._topics for lane in lanes):
            self._topics = {}
            topic = lanes[0].topic if lanes else names.default_lanes()[0].topic
            raise QueueUnknown(names.queue, topic, self._connection.bootstrap)
        weights = self._roster.weights()
        return [
            *(
                TopicStats(topic=lane.topic, kind="lane", level=lane.level, weight=weights.get(lane.topic, lane.weight))
                for lane in lanes
            ),
            *(TopicStats(topic=names.tier(tier), kind="tier", delay_ms=tier.delay_ms) for tier in tiers),
            TopicStats(topic=names.dlq, kind="dlq"),
        ]

    def _partitions(self, topics: Sequence[str]) -> list[Partition]:
        return [(topic, partition) for topic in topics for partition in range(self._topics.get(topic, 0))]

    def _follow(self) -> None:
        """Reads what is new in the heartbeats and in the audit."""
        self._log.renew()
        partitions = self._partitions([self._names.workers, self._names.audit])
        for message in self._log.read({each: self._log.ends.get(each, BEGINNING) for each in partitions}):
            key, value = (message.key() or b"").decode("utf-8", "replace"), message.value()
            if message.topic() == self._names.audit:
                record = decode_audit(value or b"")
                if record is not None:
                    self._replayed |= _record(record.deals_with)
            elif value is None:
                self._roster.forget(key)
            elif (beat := decode_heartbeat(value)) is not None:
                self._roster.add(beat)
            elif is_newer(value):
                self._newer[key] = message.timestamp()[1]
        self._standing.follow(self._log, self._topics)

    def _taken(
        self, committed: Mapping[Partition, Commit], ends: Mapping[Partition, int], running: Sequence[RunningStats]
    ) -> dict[Partition, Taken]:
        """What does not wait in each partition: because it runs, or because it is finished above the watermark."""
        runs = _offsets_of(running)
        return {
            partition: Taken(
                frozenset(runs.get(partition, ())),
                map_of(*committed[partition], end) if partition in committed else None,
            )
            for partition, end in ends.items()
        }

    def _read_heads(self, spans: Mapping[Partition, Span], taken: Mapping[Partition, Taken]) -> None:
        wanted = self._backlog.wanted(spans, taken)
        self._heads.renew()
        try:
            for message in self._heads.read(
                {partition: stretch.start for partition, stretch in wanted.items()},
                {partition: stretch.stop for partition, stretch in wanted.items()},
                {partition: stretch.most for partition, stretch in wanted.items()},
            ):
                partition = (message.topic() or "", message.partition() or 0)
                self._backlog.add(partition, message.offset() or 0, message.timestamp()[1], taken)
        except ReadIncomplete:
            return  # Estimates have to do this time; the next snapshot goes on where this one stopped.
        self._backlog.complete()

    def _growth(self, ends: Mapping[Partition, int], now_ms: int) -> dict[Partition, float]:
        """Records a second of each partition over the last ten seconds; the first time Kafka's time index tells."""
        if not self._ends:
            since = self._offsets.since(ends, now_ms - RATE_WINDOW_MS)
            self._ends.append((now_ms - RATE_WINDOW_MS, {**ends, **since}))
        while len(self._ends) > 1 and self._ends[1][0] <= now_ms - RATE_WINDOW_MS:
            self._ends.popleft()
        since_ms, earlier = self._ends[0]
        self._ends.append((now_ms, ends))
        seconds = max(now_ms - since_ms, 1) / 1000
        return {partition: max(0, end - earlier.get(partition, end)) / seconds for partition, end in ends.items()}

    def _measured(
        self,
        one: TopicStats,
        spans: Mapping[Partition, Span],
        taken: Mapping[Partition, Taken],
        growth: Mapping[Partition, float],
        now_ms: int,
    ) -> TopicStats:
        length = self._backlog.length(one.topic, spans, taken)
        return replace(
            one,
            partitions=self._topics.get(one.topic, 0),
            length=length.waiting,
            exact=length.exact,
            oldest_age_ms=max(0, now_ms - length.oldest_ms) if length.oldest_ms else 0,
            lag=sum(end - watermark for (topic, _), (watermark, end) in spans.items() if topic == one.topic),
            in_per_s=sum(rate for (topic, _), rate in growth.items() if topic == one.topic),
        )

    def _stats(
        self,
        measured: Sequence[TopicStats],
        running: tuple[RunningStats, ...],
        workers: tuple[WorkerStats, ...],
        now_ms: int,
    ) -> Stats:
        standing = self._standing.now(now_ms)
        weights = {each.lane: each.weight for each in standing if each.kind == WEIGHT}
        lanes = tuple(replace(one, weight=weights.get(one.topic, one.weight)) for one in measured if one.kind == "lane")
        tiers = tuple(one for one in measured if one.kind == "tier")
        dlq = next(one for one in measured if one.kind == "dlq")
        roster, totals, types = self._roster, self._roster.totals(), self._roster.types(now_ms)
        alive = roster.alive(now_ms)
        times = mean_of("", types)
        return Stats(
            queue=self._names.queue,
            at_ms=now_ms,
            queue_length=sum(lane.length for lane in lanes),
            running_tasks=sum(beat.running for beat in alive),
            completed_tasks=totals.completed,
            failed_tasks=totals.failed,
            retried_attempts=totals.retried,
            delayed_tasks=sum(tier.length for tier in tiers),
            dead_letters=max(0, dlq.length - len(self._replayed)),
            avg_process_time_s=times.mean_ms / 1000,
            p95_process_time_s=times.p95_ms / 1000,
            worker_count=len(alive),
            newer_workers=sum(1 for at_ms in self._newer.values() if now_ms - at_ms <= HEARTBEAT_GONE_MS),
            workers_known=len(roster.workers(now_ms)),
            utilisation=roster.utilisation(now_ms),
            slots=sum(beat.concurrency for beat in alive),
            lag=sum(one.lag for one in (*lanes, *tiers)),
            rates=replace(roster.rates(now_ms), enqueued_per_s=sum(lane.in_per_s for lane in lanes)),
            lanes=lanes,
            tiers=tiers,
            dlq=dlq,
            workers=workers,
            pools=roster.pools(now_ms),
            types=types,
            running=running,
            held_back=roster.held_back(now_ms),
            paused=tuple(each for each in standing if each.kind == PAUSE),
            orders=tuple(each for each in standing if each.kind != PAUSE),
        )


def _watermark(
    partition: Partition,
    committed: Mapping[Partition, Commit],
    starts: Mapping[Partition, int],
    ends: Mapping[Partition, int],
    latest: Collection[str],
) -> int:
    """Where the group begins or goes on: what it committed, else where it would start; never before what is there."""
    fallback = ends[partition] if partition[0] in latest else starts[partition]
    offset = committed[partition].offset if partition in committed else fallback
    return min(ends[partition], max(starts[partition], offset))


def _record(text: str) -> set[tuple[str, int, int]]:
    try:
        origin = Origin.parse(text)
    except MalformedRecord:
        return set()
    return {(origin.topic, origin.partition, origin.offset)}


def _offsets_of(running: Sequence[RunningStats]) -> dict[Partition, set[int]]:
    found: dict[Partition, set[int]] = {}
    for one in running:
        for topic, number, offset in _record(f"{one.task.partition}/{max(0, one.task.offset)}"):
            found.setdefault((topic, number), set()).add(offset)
    return found
