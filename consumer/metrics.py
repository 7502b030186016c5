"""What a worker's metrics are now: read when somebody asks, from what the parts of the worker count anyway.

Invariant: it only reads, from any thread, and a task pays nothing for it, whoever is told.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import confluent_kafka

from fairlane.consumer import measures as of
from fairlane.consumer import meter
from fairlane.consumer.children import Children
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.engine import Engine
from fairlane.consumer.flow import map_fullness
from fairlane.consumer.meter import OTHER, Meter, Tally
from fairlane.consumer.threads import Threads
from fairlane.consumer.vitals import Vitals
from fairlane.topics import tracing
from fairlane.topics.events import Heartbeat
from fairlane.topics.metrics.measure import Example, Measure, Reading, Spread


@dataclass(frozen=True)
class WorkerMetrics:
    """Reads what one worker measures.

    Attributes:
        config: of the worker.
        engine: its reader, feed and settler.
        meter: its counts of attempts.
        children: its child processes.
        threads: its threads for `def` handlers.
        vitals: its health.
        beat: gives its newest heartbeat, None before there is one.
    """

    config: WorkerConfig
    engine: Engine
    meter: Meter
    children: Children
    threads: Threads
    vitals: Vitals
    beat: Callable[[], Heartbeat | None]

    def collect(self) -> Iterator[Reading]:
        """Everything that is known of the worker now."""
        beat = self.beat() or Heartbeat(worker=self.config.worker)
        runs = (beat.version or "unknown", platform.python_version(), str(confluent_kafka.version()))
        yield Reading(of.BUILD, {(*runs, confluent_kafka.libversion()[0]): 1})
        yield from self._tasks(self.meter.tallies)
        yield from self._worker(beat)
        yield from self._partitions()
        yield from self._settlements()
        yield from self._threads_and_processes()

    def _tasks(self, tallies: Mapping[tuple[str, str], Tally]) -> Iterator[Reading]:
        intake = self.engine.reader.intake
        yield _by_one(of.RECEIVED, self.engine.reader.received)
        yield _by_task(of.SUCCEEDED, tallies, lambda tally: tally.completed)
        yield Reading(of.RETRIED, _by_kind(tallies, lambda tally: tally.retried))
        yield Reading(of.FAILED, _by_kind(tallies, lambda tally: tally.failed))
        yield _by_task(of.REJECTED, tallies, lambda tally: tally.rejected)
        yield _by_task(of.EXPIRED, tallies, lambda tally: tally.expired)
        unstarted = self.engine.feed.unstarted
        cancelled: dict[tuple[str, ...], float] = {key: tally.cancelled for key, tally in tallies.items()}
        self._add(cancelled, unstarted.dropped.copy().items())
        yield Reading(of.CANCELLED, cancelled)
        yield _by_task(of.HANDED_BACK, tallies, lambda tally: tally.handed_back)
        letters = _by_kind(tallies, lambda tally: tally.letters)
        letters |= {(OTHER, topic, "malformed"): count for topic, count in intake.malformed.copy().items()}
        self._add(letters, unstarted.letters.copy().items())
        yield Reading(of.LETTERS, letters)
        yield _by_one(of.DEFERRED, intake.deferred.copy())
        took: dict[tuple[str, ...], Spread] = {
            key: Spread(
                list(tally.took),
                tally.took_ms / 1000,
                {bucket: _example(each) for bucket, each in tally.exemplars.copy().items()},
            )
            for key, tally in tallies.items()
        }
        yield Reading(of.TOOK, {}, took)
        yield Reading(
            of.WAITED,
            {},
            {key: Spread(list(tally.waited), tally.waited_ms / 1000) for key, tally in tallies.items()},
        )
        sizes = {kind: Spread(list(each.sizes), each.tasks) for kind, each in self.meter.batched.items()}
        yield Reading(of.BATCHES, {}, {(kind,): spread for kind, spread in sizes.items()})

    def _add(self, counts: dict[tuple[str, ...], float], unstarted: Iterable[tuple[tuple[str, ...], int]]) -> None:
        """Those that ended without a start, by their type first."""
        for (kind, *rest), count in unstarted:
            key = (self.meter.known(kind), *rest)
            counts[key] = counts.get(key, 0) + count

    def _worker(self, beat: Heartbeat) -> Iterator[Reading]:
        reader, settler = self.engine.reader, self.engine.settler
        me = self.config.queue, self.config.worker
        for measure, value in (
            (of.UP, self.vitals.is_ready),
            (of.ACTIVE, beat.running),
            (of.CONCURRENCY, self.config.concurrency),
            (of.UTILISATION, beat.utilisation),
            (of.DELAYED, beat.delayed),
            (of.HELD_BYTES, reader.intake.held_bytes),
            (of.GATHERED, self.engine.feed.gathered),
            (of.PARTITIONS, len(reader.held)),
            (of.UNSETTLED, settler.backlog),
            (of.UNSETTLED_BYTES, settler.backlog_bytes),
        ):
            yield Reading(measure, {me: float(value)})
        yield Reading(of.BUFFERED, {(*me, lane): count for lane, count in reader.waiting().items()})
        yield Reading(of.LIMIT, {(*me, task): limit for task, limit in beat.limits.items()})
        yield Reading(of.WEIGHT, {(*me, lane): weight for lane, weight in self.engine.weights.items()})

    def _partitions(self) -> Iterator[Reading]:
        reader = self.engine.reader
        found = {(topic, str(number)): each for (topic, number), each in reader.intake.open().items()}
        yield Reading(of.OPEN_RECORDS, {key: each.records for key, each in found.items()})
        yield Reading(of.OPEN_SPAN, {key: each.span for key, each in found.items()})
        yield Reading(of.MAP_FULLNESS, {key: map_fullness(*each) for key, each in found.items()})
        yield _by_one(of.REBALANCES, reader.rebalances.copy())
        yield _one(of.REJOINS, reader.rejoins)
        yield _one(of.POLL_AGE, max(0.0, time.monotonic() - reader.last_poll))

    def _settlements(self) -> Iterator[Reading]:
        found = self.engine.settler.meter
        took = found.took.copy()
        ends = {"committed": sum(took), "aborted": found.aborted, "given_up": found.given_up}
        yield _by_one(of.SETTLEMENTS, ends)
        yield _one(of.SETTLED, found.outcomes)
        yield _one(of.REPEATED, found.repeated)
        yield Reading(of.SETTLING, {}, {(): Spread(took, found.took_s)})

    def _threads_and_processes(self) -> Iterator[Reading]:
        watchdog, children = self.vitals.watchdog, self.children
        yield _one(of.LOOP_LAG, watchdog.lag_s)
        yield _one(of.LOOP_BLOCKED, watchdog.blocked)
        yield _one(of.ABANDONED, self.threads.abandoned)
        yield _one(of.CHILDREN, children.alive)
        yield _one(of.CHILDREN_STARTED, children.started)
        yield _by_one(of.CHILDREN_ENDED, children.ends.copy())


def _one(measure: Measure, value: float) -> Reading:
    return Reading(measure, {(): value})


def _by_one(measure: Measure, counts: Mapping[str, int]) -> Reading:
    return Reading(measure, {(key,): count for key, count in counts.items()})


def _by_task(measure: Measure, tallies: Mapping[tuple[str, str], Tally], count: Callable[[Tally], int]) -> Reading:
    return Reading(measure, {key: count(tally) for key, tally in tallies.items()})


def _by_kind(
    tallies: Mapping[tuple[str, str], Tally], counts: Callable[[Tally], Mapping[str, int]]
) -> dict[tuple[str, ...], float]:
    return {(*key, kind): count for key, tally in tallies.items() for kind, count in dict(counts(tally)).items()}


def _example(found: meter.Exemplar) -> Example:
    parent = found.traceparent
    return Example(tracing.trace_id(parent), tracing.span_id(parent), found.took_ms / 1000, found.finished_ms / 1000)
