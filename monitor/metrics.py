"""What a monitor's metrics are now: the newest snapshot, which `fairlane monitor` shows too, and how far the store is.

Invariant: it only reads, from any thread; Kafka is not asked for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from fairlane.monitor import measures as of
from fairlane.monitor.live import Look
from fairlane.monitor.stats import Stats, TopicStats
from fairlane.monitor.store.counted import counted
from fairlane.monitor.store.follower import Progress
from fairlane.monitor.store.readers import Readers
from fairlane.topics.clock import now_ms
from fairlane.topics.held_back import HeadState
from fairlane.topics.metrics.measure import Measure, Reading

_ALIVE: Final = ("starting", "running", "draining", "lost")


@dataclass(frozen=True)
class QueueMetrics:
    """Reads what one monitor measures.

    Attributes:
        look: gives the newest snapshot.
        progress: how far the store is.
        readers: of the store.
    """

    look: Callable[[], Look]
    progress: Progress
    readers: Readers

    def collect(self) -> Iterator[Reading]:
        """Everything that is known of the queue now."""
        stats = self.look().stats
        yield from _topics(stats)
        yield from _workers(stats)
        yield from self._store(stats.queue, (now_ms() - stats.at_ms) / 1000)

    def _store(self, queue: str, age_s: float) -> Iterator[Reading]:
        progress = self.progress
        for measure, value in (
            (of.SNAPSHOT_AGE, max(0.0, age_s)),
            (of.INGESTED, progress.records),
            (of.CHANGED, progress.rows),
            (of.FORGOTTEN, progress.forgotten),
            (of.UNREAD, progress.unread),
            (of.WRITTEN, progress.written_ms / 1000),
            (of.CAUGHT_UP, progress.caught_up),
            (of.STUCK, bool(progress.problem)),
        ):
            yield Reading(measure, {(queue,): float(value)})
        with self.readers.lent() as database:
            states = counted(database).states
        yield _by(of.STORED, queue, states)


def _topics(stats: Stats) -> Iterator[Reading]:
    lanes, tiers = stats.lanes, stats.tiers
    yield _each(of.LANE_TASKS, stats, lanes, lambda lane: lane.length)
    yield _each(of.LANE_AGE, stats, lanes, lambda lane: lane.oldest_age_ms / 1000)
    yield _each(of.LANE_OFFSETS, stats, lanes, lambda lane: lane.lag)
    yield _each(of.LANE_ARRIVALS, stats, lanes, lambda lane: lane.in_per_s)
    yield _each(of.TIER_TASKS, stats, tiers, lambda tier: tier.length)
    yield _each(of.TIER_AGE, stats, tiers, lambda tier: tier.oldest_age_ms / 1000)
    yield _each(of.TIER_DELAY, stats, tiers, lambda tier: tier.delay_ms / 1000)
    yield Reading(of.LETTERS, {(stats.queue,): stats.dead_letters})
    oldest_ms = stats.dlq.oldest_age_ms if stats.dlq is not None else 0
    yield Reading(of.LETTERS_AGE, {(stats.queue,): oldest_ms / 1000})


def _workers(stats: Stats) -> Iterator[Reading]:
    queue, rates = stats.queue, stats.rates
    yield Reading(of.RUNNING, {(queue,): stats.running_tasks})
    yield Reading(of.SLOTS, {(queue,): stats.slots})
    ends = {"completed": rates.completed_per_s, "failed": rates.failed_per_s, "retried": rates.retried_per_s}
    yield _by(of.ENDS, queue, ends)
    states = Counter(worker.state for worker in stats.workers)
    # A state that nobody is in is 0: what is absent raises no alarm.
    yield _by(of.WORKERS, queue, {state: states[state] for state in _ALIVE} | {"newer": stats.newer_workers})
    yield _by(of.POOLS, queue, {pool.name: pool.processes for pool in stats.pools})
    heads = Counter(each.state for each in stats.held_back)
    yield _by(of.HELD_BACK, queue, {state: heads[state] for state in get_args(HeadState)})
    since_ms = min((each.since_ms for each in stats.held_back if each.since_ms), default=stats.at_ms)
    yield Reading(of.HELD_BACK_AGE, {(queue,): max(0, stats.at_ms - since_ms) / 1000})


def _each(
    measure: Measure, stats: Stats, topics: tuple[TopicStats, ...], value: Callable[[TopicStats], float]
) -> Reading:
    return Reading(measure, {(stats.queue, topic.topic): value(topic) for topic in topics})


def _by(measure: Measure, queue: str, values: Mapping[str, float]) -> Reading:
    return Reading(measure, {(queue, name): value for name, value in values.items()})
