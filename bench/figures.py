"""The figures: what each is called, how it is made of measurements, and the bar that it has to meet.

Invariant: a figure is the same formula over the medians of a run and over each repeat by itself: the one is quoted, the
others are its spread. What was not measured leaves its figure open, and says which measurement is missing.
"""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from fairlane.topics.names import DEFAULT_WEIGHTS

Measured = Mapping[str, float]

BEST_PYTHON: Final = ("celery_per_s", "dramatiq_per_s", "rq_per_s", "faststream_per_s")
"""Peers in Python that acknowledge a task after it has succeeded."""


_COMPARED: Final[Mapping[str, Callable[[float, float], bool]]] = {"≥": operator.ge, "≤": operator.le, "=": operator.eq}


class Bar(NamedTuple):
    """What a figure has to be."""

    sign: str
    limit: float

    def is_met(self, value: float) -> bool:
        """Whether it is that."""
        return _COMPARED[self.sign](value, self.limit)

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}"


class Figure(NamedTuple):
    """One figure of the table.

    Attributes:
        key: in the JSON.
        meaning: one line for people.
        of: makes it of measurements.
        bar: what it has to be; None where it is only reported.
        workload: what measures it.
    """

    key: str
    meaning: str
    of: Callable[[Measured], float]
    bar: Bar | None
    workload: str


class Found(NamedTuple):
    """A figure of a run: its value, that of each repeat, and why there is none where there is none."""

    figure: Figure
    value: float | None
    repeats: Sequence[float]
    missing: str = ""

    @property
    def verdict(self) -> str:
        """Whether it meets its bar."""
        if self.value is None:
            return "not measured"
        if self.figure.bar is None:
            return "reported"
        return "met" if self.figure.bar.is_met(self.value) else "short"


def at_least(limit: float) -> Bar:
    """A bar."""
    return Bar("≥", limit)


def at_most(limit: float) -> Bar:
    """A bar."""
    return Bar("≤", limit)


def plain(name: str) -> Callable[[Measured], float]:
    """The measurement as it is."""
    return lambda measured: measured[name]


def ratio(over: str, under: str) -> Callable[[Measured], float]:
    """One by the other."""
    return lambda measured: measured[over] / measured[under]


def _best_python(measured: Measured) -> float:
    found = [measured[name] for name in BEST_PYTHON if name in measured]
    if len(found) < len(BEST_PYTHON):
        raise KeyError(next(name for name in BEST_PYTHON if name not in measured))
    return measured["noop_per_s"] / max(found)


def _trace_us(measured: Measured) -> float:
    return measured["sampled_cpu_us"] - measured["plain_cpu_us"]


def _reported(key: str, meaning: str, workload: str) -> Figure:
    return Figure(key, meaning, plain(key), None, workload)


KEYS: Final[Sequence[Figure]] = (
    Figure("noop_vs_raw", "no-op tasks/s ÷ raw loop", ratio("noop_per_s", "raw_per_s"), at_least(0.25), "noop"),
    Figure("noop_vs_best_python", "no-op tasks/s ÷ the best Python peer", _best_python, at_least(15), "noop"),
    Figure(
        "noop_vs_parallel_consumer",
        "no-op tasks/s ÷ Parallel Consumer `poll`",
        ratio("noop_per_s", "parallel_consumer_poll_per_s"),
        at_least(1.5),
        "noop",
    ),
    Figure("trace_us_sampled", "CPU added to a task by tracing, all exported, µs", _trace_us, at_most(60), "noop"),
    Figure(
        "enqueue_vs_raw",
        "`enqueue_many` records/s ÷ raw producer",
        ratio("enqueue_many_per_s", "enqueue_raw_per_s"),
        at_least(0.7),
        "enqueue",
    ),
    Figure(
        "wait50_vs_ideal",
        "tasks of 50 ms waiting, 500 at once: time ÷ ideal",
        ratio("wait50_s", "wait50_ideal_s"),
        at_most(1.15),
        "wait50",
    ),
    Figure(
        "sync_vs_dramatiq",
        "sync no-op on 2 processes × 8 threads ÷ Dramatiq's 2 × 8",
        ratio("sync_per_s", "dramatiq_per_s"),
        at_least(10),
        "sync",
    ),
    Figure("idle_p50_ms", "enqueue to start, idle: p50, ms", plain("idle_p50_ms"), at_most(3), "latency"),
    Figure("idle_p99_ms", "enqueue to start, idle: p99, ms", plain("idle_p99_ms"), at_most(20), "latency"),
    Figure(
        "loaded_p99_vs_idle",
        "the same for p5 with p1 to p4 full and all slots taken: p99 ÷ idle p99",
        ratio("loaded_p99_ms", "idle_p99_ms"),
        at_most(2),
        "latency",
    ),
    Figure(
        "share_error_bound",
        "shares of lanes 16:8:4:2:1, handler-bound: largest error, points",
        plain("share_error_bound"),
        at_most(2),
        "backlog",
    ),
    Figure(
        "share_error_full",
        "the same at full speed: largest error, points",
        plain("share_error_full"),
        at_most(5),
        "backlog",
    ),
    Figure("delay_p99_ms", "due time to start: p99, ms", plain("delay_p99_ms"), at_most(50), "delays"),
    Figure("delay_min_ms", "the same: the earliest, ms", plain("delay_min_ms"), at_least(0), "delays"),
    Figure(
        "backlog_1m_vs_10k",
        "tasks/s at a backlog of 1 M ÷ at 10 k",
        ratio("backlog_1m_per_s", "backlog_10k_per_s"),
        at_least(0.9),
        "backlog",
    ),
    Figure("rss_mib", "memory, 1 M tasks waiting, 100 k delayed, MiB", plain("rss_mib"), at_most(200), "latency"),
    Figure(
        "rerun_after_restart",
        "settled tasks run again after a kill -9 with full offset maps",
        plain("rerun_after_restart"),
        Bar("=", 0),
        "restart",
    ),
    Figure(
        "many_workers",
        "100 workers of 10 tasks/s each: p99 of a result, ms",
        plain("many_workers_p99_ms"),
        None,
        "fleet",
    ),
)
"""The table of the figures that have a bar, and of one that has none."""

NEXT_TO_THEM: Final[Sequence[Figure]] = (
    _reported("noop_per_s", "no-op tasks/s: one worker, result and status stored, exactly one outcome", "noop"),
    _reported("raw_per_s", "raw loop: consume, produce one record each, commit; records/s", "noop"),
    _reported("parallel_consumer_poll_per_s", "Parallel Consumer (Java), `poll`: records/s", "noop"),
    _reported("parallel_consumer_produce_per_s", "Parallel Consumer (Java), `pollAndProduce`: records/s", "noop"),
    _reported("dramatiq_per_s", "Dramatiq on Redis, 2 × 8 threads: tasks/s", "noop"),
    _reported("faststream_per_s", "FastStream on confluent-kafka, ack after success: records/s", "noop"),
    _reported("celery_per_s", "Celery on Redis, 2 processes: tasks/s", "noop"),
    _reported("rq_per_s", "RQ, 2 workers: tasks/s", "noop"),
    _reported("dramatiq_enqueue_per_s", "Dramatiq, enqueueing: tasks/s", "noop"),
    _reported("celery_enqueue_per_s", "Celery, enqueueing: tasks/s", "noop"),
    _reported("rq_enqueue_per_s", "RQ, enqueueing: tasks/s", "noop"),
    _reported("noop_cpu_us", "CPU of a no-op task, tracing on, none sampled, µs", "noop"),
    _reported("plain_cpu_us", "CPU of a no-op task without an SDK, µs", "noop"),
    _reported("sampled_cpu_us", "CPU of a no-op task whose spans are exported, µs", "noop"),
    _reported("sync_per_s", "sync no-op tasks/s on 2 processes × 8 threads", "sync"),
    _reported("sync_one_process_per_s", "sync no-op tasks/s on 16 threads of one process", "sync"),
    _reported("wait50_s", "10,000 tasks of 50 ms, 500 at once, s", "wait50"),
    Figure(
        "parallel_consumer_wait50_vs_ideal",
        "Parallel Consumer, tasks of 50 ms waiting: time ÷ ideal",
        ratio("parallel_consumer_wait50_s", "wait50_ideal_s"),
        None,
        "wait50",
    ),
    Figure(
        "cpu5_vs_ideal",
        "tasks of 5 ms of CPU on 2 processes: rate ÷ what the cores could do",
        ratio("cpu5_per_s", "cpu5_ideal_per_s"),
        None,
        "cpu5",
    ),
    _reported("cpu5_per_s", "tasks of 5 ms of CPU, `fairlane worker --processes 2`: tasks/s", "cpu5"),
    _reported("dramatiq_cpu5_per_s", "Dramatiq, the same: tasks/s", "cpu5"),
    _reported("celery_cpu5_per_s", "Celery, the same: tasks/s", "cpu5"),
    _reported("rq_cpu5_per_s", "RQ, the same: tasks/s", "cpu5"),
    _reported("enqueue_many_per_s", "`enqueue_many`, tasks/s", "enqueue"),
    _reported("enqueue_raw_per_s", "raw producer that learns of each acknowledgement, records/s", "enqueue"),
    _reported("enqueue_blind_per_s", "raw producer that does not, records/s", "enqueue"),
    _reported("enqueue_one_per_s", "`enqueue`, one after the other, tasks/s", "enqueue"),
    _reported("enqueue_one_p50_ms", "`enqueue`, one: p50, ms", "enqueue"),
    _reported("loaded_p50_ms", "enqueue to start of p5 under load: p50, ms", "latency"),
    _reported("loaded_p99_ms", "enqueue to start of p5 under load: p99, ms", "latency"),
    _reported("rss_growth_mib", "growth of resident memory in the last third, MiB", "latency"),
    _reported("rss_idle_mib", "resident memory of an idle worker, MiB", "latency"),
    _reported("delay_p50_ms", "due time to start: p50, ms", "delays"),
    *(
        _reported(
            f"share_p{level}_full", f"share of p{level} at full speed, of an ideal {100 * weight / 31:.1f} %", "backlog"
        )
        for level, weight in DEFAULT_WEIGHTS.items()
    ),
    _reported("backlog_10k_per_s", "tasks/s at a backlog of 10 k", "backlog"),
    _reported("backlog_100k_per_s", "tasks/s at a backlog of 100 k", "backlog"),
    _reported("backlog_1m_per_s", "tasks/s at a backlog of 1 M", "backlog"),
    _reported("many_workers_p50_ms", "100 workers of 10 tasks/s each: p50 of a result, ms", "fleet"),
    _reported("many_workers_p99_ms", "100 workers of 10 tasks/s each: p99 of a result, ms", "fleet"),
    _reported("many_workers_transactions_per_s", "the same: transactions/s", "fleet"),
    _reported("many_workers_broker_cores", "the same: broker CPU, cores", "fleet"),
    _reported("completed_before_restart", "tasks settled beyond and below the maps before the kill", "restart"),
)
"""Absolute rates and what else was measured, reported next to the table."""

FIGURES: Final = (*KEYS, *NEXT_TO_THEM)


def find(repeats: Sequence[Measured], workloads: Sequence[str], reasons: Mapping[str, str]) -> list[Found]:
    """The figures of a run.

    Args:
        repeats: what each repeat measured; what is measured only once is in the first.
        workloads: those that ran; figures of others are left out.
        reasons: why a measurement is missing, by its name.
    """
    names = {name for repeat in repeats for name in repeat}
    medians = {name: statistics.median(repeat[name] for repeat in repeats if name in repeat) for name in names}
    return [_found(figure, medians, repeats, reasons) for figure in FIGURES if figure.workload in workloads]


def _found(figure: Figure, medians: Measured, repeats: Sequence[Measured], reasons: Mapping[str, str]) -> Found:
    try:
        value = figure.of(medians)
    except KeyError as lacking:
        name = lacking.args[0]
        return Found(figure, None, (), reasons.get(name, f"{name} was not measured"))
    spread = []
    for repeat in repeats:
        try:
            spread.append(figure.of(repeat))
        except KeyError:
            continue  # measured once, in another repeat
    return Found(figure, value, tuple(spread))
