"""What a worker tells Prometheus: collected when it asks, from what the parts of the worker count anyway.

Invariant: a scrape only reads, from any thread, and a task pays nothing for it. No label has values without bound:
never a task's id; a type only where it has a handler, an error only by its class. docs/metrics.md is the table of it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import confluent_kafka
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.samples import Exemplar

from fairlane.consumer import meter, settle_meter
from fairlane.consumer.children import Children
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.engine import Engine
from fairlane.consumer.flow import map_fullness
from fairlane.consumer.meter import OTHER, Meter, Tally
from fairlane.consumer.threads import Threads
from fairlane.consumer.vitals import Vitals
from fairlane.topics import tracing
from fairlane.topics.events import Heartbeat

Counts = Mapping[tuple[str, ...], float]
"""Values by the values of the labels."""

_TASK: Final = ("task", "lane")
_WORKER: Final = ("queue", "worker")
_PARTITION: Final = ("topic", "partition")


@dataclass(frozen=True)
class WorkerMetrics:
    """A collector of one worker.

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

    def page(self, accept: str) -> tuple[str, bytes]:
        """The metrics of the worker and of its process, with whatever its handlers have in the default registry.

        Args:
            accept: media types that the client accepts: text, or OpenMetrics, which has the exemplars.
        """
        encode, media_type = choose_encoder(accept)
        return media_type, encode(_Both(self))

    def collect(self) -> Iterator[Metric]:
        """Everything that is known of the worker now."""
        version = (beat.version if (beat := self.beat()) is not None else "") or "unknown"
        libraries = {"confluent_kafka": str(confluent_kafka.version()), "librdkafka": confluent_kafka.libversion()[0]}
        yield InfoMetricFamily(
            "fairlane_build", "What runs.", {"version": version, "python": platform.python_version(), **libraries}
        )
        yield from self._tasks(self.meter.tallies)
        yield from self._worker(beat)
        yield from self._partitions()
        yield from self._settlements()
        yield from self._threads_and_processes()

    def _tasks(self, tallies: Mapping[tuple[str, str], Tally]) -> Iterator[Metric]:
        intake = self.engine.reader.intake
        malformed = {(OTHER, topic): count for topic, count in intake.malformed.copy().items()}
        handed = self.engine.reader.received
        yield _counter("tasks_received", "Tasks read from a lane, or from the tiers.", ["lane"], _by_one(handed))
        yield _counter("tasks_succeeded", "Attempts that returned.", _TASK, _by_task(tallies, lambda t: t.completed))
        yield _counter(
            "tasks_retried",
            "Attempts that another one follows.",
            [*_TASK, "exception"],
            _by_kind(tallies, lambda tally: tally.retried),
        )
        yield _counter(
            "tasks_failed",
            "Tasks that are dead of an error.",
            [*_TASK, "exception"],
            _by_kind(tallies, lambda tally: tally.failed),
        )
        yield _counter(
            "tasks_rejected", "Tasks that a handler rejected.", _TASK, _by_task(tallies, lambda t: t.rejected)
        )
        yield _counter("tasks_expired", "Tasks that expired unstarted.", _TASK, _by_task(tallies, lambda t: t.expired))
        yield _counter(
            "tasks_handed_back",
            "Tasks that a shutdown took from their handlers.",
            _TASK,
            _by_task(tallies, lambda tally: tally.handed_back),
        )
        letters = dict(_by_kind(tallies, lambda tally: tally.letters))
        letters |= {(*key, "malformed"): count for key, count in malformed.items()}
        for (kind, lane), count in self.engine.feed.buried.copy().items():
            key = (self.meter.known(kind), lane, "worker_lost")
            letters[key] = letters.get(key, 0) + count
        yield _counter("tasks_dead_lettered", "Dead letters.", [*_TASK, "reason"], letters)
        yield _counter(
            "tasks_deferred", "Records that moved on to a tier unstarted.", ["lane"], _by_one(intake.deferred.copy())
        )
        bounds_s = [bound / 1000 for bound in meter.BOUNDS_MS]
        took = HistogramMetricFamily("fairlane_task_duration_seconds", "How long attempts took.", labels=_TASK)
        waited = HistogramMetricFamily(
            "fairlane_task_queue_wait_seconds", "How long attempts waited since they were due.", labels=_TASK
        )
        for labels, tally in tallies.items():
            examples = {bucket: _exemplar(each) for bucket, each in tally.exemplars.copy().items()}
            took.add_metric(labels, _buckets(bounds_s, tally.took, examples), tally.took_ms / 1000)
            waited.add_metric(labels, _buckets(bounds_s, tally.waited), tally.waited_ms / 1000)
        sizes = HistogramMetricFamily("fairlane_task_batch_size", "Tasks of a batch.", labels=("task",))
        for kind, batched in self.meter.batched.items():
            sizes.add_metric((kind,), _buckets(meter.BATCH_SIZES, batched.sizes), batched.tasks)
        yield from (took, waited, sizes)

    def _worker(self, beat: Heartbeat | None) -> Iterator[Metric]:
        beat = beat or Heartbeat(worker=self.config.worker)
        settler = self.engine.settler
        for name, says, value in (
            ("worker_up", "Whether it does its work, as /readyz says.", self.vitals.is_ready),
            ("worker_tasks_active", "Attempts under way.", beat.running),
            ("worker_concurrency", "Attempts that can be under way at once.", self.config.concurrency),
            ("worker_utilisation_ratio", "The share of those in the last second.", beat.utilisation),
            ("worker_tasks_delayed", "Tasks that wait in memory for their time.", beat.delayed),
            ("worker_held_bytes", "Records that may not be taken yet.", self.engine.reader.intake.held_bytes),
            ("worker_tasks_gathered", "Tasks that wait for company in a batch.", self.engine.feed.gathered),
            ("worker_partitions", "Partitions that it holds.", len(self.engine.reader.held)),
            ("worker_outcomes_unsettled", "Outcomes that wait for their settlement.", settler.backlog),
            ("worker_outcomes_unsettled_bytes", "Their size.", settler.backlog_bytes),
        ):
            yield _gauge(name, says, _WORKER, {self._me: float(value)})
        yield _gauge(
            "worker_tasks_buffered",
            "Tasks that were read ahead, by lane; those of all tiers are one.",
            [*_WORKER, "lane"],
            {(*self._me, lane): count for lane, count in self.engine.reader.waiting().items()},
        )

        yield _gauge(
            "worker_task_limit",
            "How many attempts of a type may run at once now, where that adapts.",
            [*_WORKER, "task"],
            {(*self._me, task): limit for task, limit in beat.limits.items()},
        )

    @property
    def _me(self) -> tuple[str, str]:
        return self.config.queue, self.config.worker

    def _partitions(self) -> Iterator[Metric]:
        found = {(topic, str(number)): each for (topic, number), each in self.engine.reader.intake.open().items()}
        yield _gauge(
            "partition_unsettled_records",
            "Records that were read and are not settled.",
            _PARTITION,
            {key: each.records for key, each in found.items()},
        )
        yield _gauge(
            "partition_watermark_lag_offsets",
            "How far reading is ahead of the committed offset.",
            _PARTITION,
            {key: each.span for key, each in found.items()},
        )
        yield _gauge(
            "partition_map_fullness_ratio",
            "How full its offset map is; at 1 the partition is paused.",
            _PARTITION,
            {key: map_fullness(*each) for key, each in found.items()},
        )
        reader = self.engine.reader
        yield _counter("rebalances", "What the group did.", ["event"], _by_one(reader.rebalances.copy()))
        yield _counter("rejoins", "Consumers that were lost and made anew.", (), {(): reader.rejoins})
        poll_age_s = max(0.0, time.monotonic() - reader.last_poll)
        yield _gauge("reader_poll_age_seconds", "How long ago the reader polled.", (), {(): poll_age_s})

    def _settlements(self) -> Iterator[Metric]:
        found = self.engine.settler.meter
        took = found.took.copy()
        ends = {"committed": sum(took), "aborted": found.aborted, "given_up": found.given_up}
        yield _counter("settlements", "Transactions of the settler by how they ended.", ["end"], _by_one(ends))
        yield _counter("settled_outcomes", "Outcomes that were settled.", (), {(): found.outcomes})
        yield _counter(
            "settlement_calls_repeated", "Calls that Kafka asked to be made again.", (), {(): found.repeated}
        )
        duration = HistogramMetricFamily(
            "fairlane_settlement_duration_seconds", "How long committed transactions took.", labels=()
        )
        duration.add_metric((), _buckets(settle_meter.BOUNDS_S, took), found.took_s)
        yield duration

    def _threads_and_processes(self) -> Iterator[Metric]:
        watchdog, children = self.vitals.watchdog, self.children
        yield _gauge("event_loop_lag_seconds", "How long the loop took to answer.", (), {(): watchdog.lag_s})
        yield _counter("event_loop_blocked", "How often a handler blocked it.", (), {(): watchdog.blocked})
        yield _counter("handler_threads_abandoned", "Threads left behind in C code.", (), {(): self.threads.abandoned})
        yield _gauge("child_processes", "Child processes that are alive.", (), {(): children.alive})
        yield _counter("child_processes_started", "Child processes that were started.", (), {(): children.started})
        yield _counter("child_processes_ended", "How they ended.", ["end"], _by_one(children.ends.copy()))


class _Both:
    """A worker's metrics and those of the process, as one registry."""

    def __init__(self, worker: WorkerMetrics) -> None:
        self._worker = worker

    def collect(self) -> Iterable[Metric]:
        yield from self._worker.collect()
        yield from REGISTRY.collect()


def _counter(name: str, says: str, labels: Sequence[str], values: Counts) -> Metric:
    family = CounterMetricFamily(f"fairlane_{name}", says, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _gauge(name: str, says: str, labels: Sequence[str], values: Counts) -> Metric:
    family = GaugeMetricFamily(f"fairlane_{name}", says, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _by_one(counts: Mapping[str, int]) -> Counts:
    return {(key,): count for key, count in counts.items()}


def _by_task(tallies: Mapping[tuple[str, str], Tally], count: Callable[[Tally], int]) -> Counts:
    return {key: count(tally) for key, tally in tallies.items()}


def _by_kind(
    tallies: Mapping[tuple[str, str], Tally], counts: Callable[[Tally], Mapping[str, int]]
) -> dict[tuple[str, ...], float]:
    return {(*key, kind): count for key, tally in tallies.items() for kind, count in dict(counts(tally)).items()}


def _buckets(
    bounds: Sequence[float], counts: Sequence[int], examples: Mapping[int, Exemplar] | None = None
) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Cumulative, as Prometheus has them, and each with the trace of one of its own if there is one."""
    found: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    for bucket, (bound, below) in enumerate(zip([*map(str, bounds), "+Inf"], accumulate(list(counts)), strict=True)):
        example = (examples or {}).get(bucket)
        found.append((bound, below) if example is None else (bound, below, example))
    return found


def _exemplar(found: meter.Exemplar) -> Exemplar:
    about = {"trace_id": tracing.trace_id(found.traceparent), "span_id": tracing.span_id(found.traceparent)}
    return Exemplar(about, found.took_ms / 1000, found.finished_ms / 1000)
