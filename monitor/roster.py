"""Keeps what the workers of a queue last said of themselves, and adds it up.

Invariant: of each worker the newest heartbeat counts, in the order of the topic; what an earlier start of the same
worker had counted is added, so that totals never fall while they are watched. Whether a worker is alive is judged by
the clock of the heartbeat against `now_ms`: clocks that differ by seconds make a worker look lost.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from msgspec.structs import replace

from fairlane.monitor.heartbeats import topics_read
from fairlane.monitor.stats import PoolStats, Rates, RunningStats, TypeStats, WorkerStats
from fairlane.topics.events import HEARTBEAT_GONE_MS, Counters, Heartbeat, Pool
from fairlane.topics.held_back import HeldBack

RATE_WINDOW_MS: Final = 10_000
LOST_SHOWN_MS: Final = 300_000
"""A lost worker counts as known for so long; later it is history."""


class _Known:
    """One worker: its newest heartbeat, those of the rate window, and the counters of its earlier starts."""

    def __init__(self, beat: Heartbeat) -> None:
        self.newest = beat
        self.window: deque[Heartbeat] = deque([beat])
        self.earlier = Counters()

    def add(self, beat: Heartbeat) -> None:
        if beat.started_ms != self.newest.started_ms:
            self.earlier = _sum((self.earlier, self.newest.counters))
            self.window.clear()
        self.newest = beat
        self.window.append(beat)
        while len(self.window) > 2 and self.window[1].at_ms <= beat.at_ms - RATE_WINDOW_MS:
            self.window.popleft()

    def rates(self) -> Rates:
        first, last = self.window[0], self.newest
        counted, since_ms = first.counters, first.at_ms
        if last.at_ms - last.started_ms <= RATE_WINDOW_MS:
            counted, since_ms = Counters(), last.started_ms
        seconds = (last.at_ms - since_ms) / 1000
        if seconds <= 0:
            return Rates()
        return Rates(
            completed_per_s=max(0, last.counters.completed - counted.completed) / seconds,
            failed_per_s=max(0, last.counters.failed - counted.failed) / seconds,
            retried_per_s=max(0, last.counters.retried - counted.retried) / seconds,
        )


class Roster:
    """The workers of a queue, from their heartbeats in the order of the topic."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def add(self, beat: Heartbeat) -> None:
        """Take note of a heartbeat."""
        known = self._known.get(beat.worker)
        if known is None:
            self._known[beat.worker] = _Known(beat)
        else:
            known.add(beat)

    def forget(self, worker: str) -> None:
        """A tombstone: the worker and what it counted are gone."""
        self._known.pop(worker, None)

    def alive(self, now_ms: int) -> tuple[Heartbeat, ...]:
        """Newest heartbeats of the workers that are alive, by name."""
        beats = (known.newest for _, known in sorted(self._known.items()))
        return tuple(beat for beat in beats if _state(beat, now_ms) not in ("lost", "stopped"))

    def topics_read(self) -> frozenset[str]:
        """The topics that the workers, alive or not, hold or held partitions of."""
        return topics_read(known.newest for known in self._known.values())

    def weights(self) -> dict[str, int]:
        """Weights of lanes by topic, as the worker has them that was started last, alive or not."""
        starts = sorted((known.newest for known in self._known.values()), key=lambda beat: beat.started_ms)
        return {topic: weight for beat in starts for topic, weight in beat.weights.items()}

    def totals(self) -> Counters:
        """Counters of all workers that the topic still knows, alive or not."""
        return _sum(part for known in self._known.values() for part in (known.earlier, known.newest.counters))

    def rates(self, now_ms: int) -> Rates:
        """What the workers alive do a second together."""
        each = [self._known[beat.worker].rates() for beat in self.alive(now_ms)]
        return Rates(
            completed_per_s=sum(rate.completed_per_s for rate in each),
            failed_per_s=sum(rate.failed_per_s for rate in each),
            retried_per_s=sum(rate.retried_per_s for rate in each),
        )

    def utilisation(self, now_ms: int) -> float:
        """Share of all slots that is in use, each worker weighted by its concurrency; 0 without workers."""
        beats = self.alive(now_ms)
        slots = sum(beat.concurrency for beat in beats)
        return sum(beat.utilisation * beat.concurrency for beat in beats) / slots if slots else 0.0

    def workers(
        self, now_ms: int, lag: Mapping[str, int] | None = None, *, every: bool = False
    ) -> tuple[WorkerStats, ...]:
        """The workers alive and those lost in the last five minutes, by name.

        Args:
            now_ms: Unix ms.
            lag: of each partition, by `topic/partition`.
            every: all that the topic still knows, also those that have stopped or were lost long ago.
        """
        shown = []
        for name, known in sorted(self._known.items()):
            beat, age_ms = known.newest, max(0, now_ms - known.newest.at_ms)
            state = _state(beat, now_ms)
            is_gone = state in ("lost", "stopped")
            if not every and is_gone and (state == "stopped" or age_ms > LOST_SHOWN_MS):
                continue
            rates = Rates() if is_gone else known.rates()
            held = () if is_gone else beat.partitions
            shown.append(
                WorkerStats(
                    worker=name,
                    state=state,
                    host=beat.host,
                    pid=beat.pid,
                    version=beat.version,
                    age_ms=age_ms,
                    uptime_ms=max(0, beat.at_ms - beat.started_ms),
                    concurrency=beat.concurrency,
                    running=beat.running,
                    utilisation=beat.utilisation,
                    buffered=beat.buffered,
                    delayed=beat.delayed,
                    partitions=len(beat.partitions),
                    lag=sum((lag or {}).get(partition, 0) for partition in held),
                    completed=beat.counters.completed,
                    failed=beat.counters.failed,
                    retried=beat.counters.retried,
                    per_s=rates.completed_per_s + rates.failed_per_s + rates.retried_per_s,
                )
            )
        return tuple(shown)

    def pools(self, now_ms: int) -> tuple[PoolStats, ...]:
        """The pools whose number of processes adapts, by name: what the workers alive were last told of them."""
        newest: dict[str, Pool] = {}
        for beat in self.alive(now_ms):
            if beat.pool is not None and beat.pool.at_ms >= newest.get(beat.pool.name, beat.pool).at_ms:
                newest[beat.pool.name] = beat.pool
        return tuple(
            PoolStats(
                name=name,
                processes=pool.processes,
                least=pool.least,
                most=pool.most,
                reason=pool.reason,
                age_ms=max(0, now_ms - pool.at_ms) if pool.at_ms else 0,
            )
            for name, pool in sorted(newest.items())
        )

    def running(self, now_ms: int) -> tuple[RunningStats, ...]:
        """The tasks that run for more than half a second, the longest first."""
        found = [
            RunningStats(worker=beat.worker, task=task, age_ms=max(0, now_ms - task.since_ms))
            for beat in self.alive(now_ms)
            for task in beat.running_tasks
        ]
        return tuple(sorted(found, key=lambda running: -running.age_ms))

    def held_back(self, now_ms: int) -> tuple[HeldBack, ...]:
        """The partitions that a task holds back, the most held back first."""
        found = [held for beat in self.alive(now_ms) for held in beat.held_back]
        return tuple(sorted(found, key=lambda held: -held.finished))

    def types(self, now_ms: int) -> tuple[TypeStats, ...]:
        """Processing times by type, the most frequent first; of the workers that stopped where none is alive."""
        beats = self.alive(now_ms) or tuple(known.newest for known in self._known.values())
        by_type: dict[str, list[TypeStats]] = {}
        for beat in beats:
            for name, times in beat.types.items():
                if times.n > 0:
                    one = TypeStats(type=name, n=times.n, mean_ms=times.mean_ms, p95_ms=times.p95_ms)
                    by_type.setdefault(name, []).append(one)
        limits: Counter[str] = Counter()
        for beat in self.alive(now_ms):
            limits.update(beat.limits)
        means = (replace(mean_of(name, each), limit=limits[name]) for name, each in by_type.items())
        return tuple(sorted(means, key=lambda one: (-one.n, one.type)))


def mean_of(name: str, times: Iterable[TypeStats]) -> TypeStats:
    """The mean of several, each weighted by how often it ran; nothing at all is 0."""
    times = tuple(times)
    n = sum(one.n for one in times)
    if not n:
        return TypeStats(type=name, n=0, mean_ms=0.0, p95_ms=0.0)
    mean_ms = sum(one.mean_ms * one.n for one in times) / n
    return TypeStats(type=name, n=n, mean_ms=mean_ms, p95_ms=sum(one.p95_ms * one.n for one in times) / n)


def _sum(counters: Iterable[Counters]) -> Counters:
    completed = failed = retried = 0
    for each in counters:
        completed, failed, retried = completed + each.completed, failed + each.failed, retried + each.retried
    return Counters(completed, failed, retried)


def _state(beat: Heartbeat, now_ms: int) -> Literal["starting", "running", "draining", "stopped", "lost"]:
    if beat.state != "stopped" and now_ms - beat.at_ms > HEARTBEAT_GONE_MS:
        return "lost"
    return beat.state
