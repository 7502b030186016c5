"""What a queue looks like at one moment: frozen numbers, and how they are made of offsets and heartbeats.

Invariant: no I/O and no clock; a snapshot is a value that any view (terminal, JSON, metrics) can be made of.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlane.topics.control import ControlRecord
from fairlane.topics.events import RunningTask
from fairlane.topics.held_back import HeldBack


class TopicStats(msgspec.Struct, frozen=True, kw_only=True):
    """A lane, a tier or the DLQ.

    Attributes:
        topic: its topic.
        kind: which of them it is.
        level: priority level of a lane; 0 for a tier and for a foreign lane that only the workers' settings know.
        weight: of a lane, the one in force: as an operator asked, else as the worker has it that was started last, or
            by default; 0 for a tier.
        delay_ms: how long a record stays in a tier; 0 for a lane.
        partitions: how many it has.
        length: tasks in it that are not settled and not known to be running. An estimate where `exact` is false:
            offsets between the committed ones and the end, in which markers of transactions count too.
        exact: whether the records were counted.
        oldest_age_ms: how long its oldest unsettled task has been in it; 0 if there is none.
        lag: distance of the group's committed offsets from the end, as Kafka's own tools show it.
        in_per_s: records that arrive a second, markers included.
    """

    topic: str
    kind: Literal["lane", "tier", "dlq"]
    level: int = 0
    weight: int = 0
    delay_ms: int = 0
    partitions: int = 0
    length: int = 0
    exact: bool = True
    oldest_age_ms: int = 0
    lag: int = 0
    in_per_s: float = 0.0


class WorkerStats(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as its newest heartbeat has it.

    Attributes:
        state: as it says itself, or `lost`: no heartbeat for five seconds, and it did not say that it stops.
        age_ms: how old its newest heartbeat is.
        per_s: attempts that it ends a second, over the last ten seconds or so.
        partitions: how many it holds, of all lanes and tiers.
        lag: of those together, as `TopicStats.lag`; 0 for one that is lost or has stopped, which holds none.
    """

    worker: str
    state: Literal["starting", "running", "draining", "stopped", "lost"]
    host: str = ""
    pid: int = 0
    version: str = ""
    age_ms: int = 0
    uptime_ms: int = 0
    concurrency: int = 0
    running: int = 0
    utilisation: float = 0.0
    buffered: int = 0
    delayed: int = 0
    partitions: int = 0
    lag: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0
    per_s: float = 0.0


class PoolStats(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of processes whose number adapts, by the newest word of its supervisor.

    Attributes:
        reason: what it last decided, and why; "" before that.
        age_ms: how long ago that was; 0 before that.
    """

    name: str
    processes: int
    least: int
    most: int
    reason: str = ""
    age_ms: int = 0


class TypeStats(msgspec.Struct, frozen=True, kw_only=True):
    """Processing times of one task type over the last minute or so, of all workers; the p95 is a weighted mean.

    Attributes:
        limit: how many of it all workers may run at once now, where that adapts; 0 where it does not.
    """

    type: str
    n: int
    mean_ms: float
    p95_ms: float
    limit: int = 0


class RunningStats(msgspec.Struct, frozen=True, kw_only=True):
    """A task that has been running for more than half a second."""

    worker: str
    task: RunningTask
    age_ms: int


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Events a second over the last ten seconds or so. `enqueued` counts records of lanes, markers included."""

    enqueued_per_s: float = 0.0
    completed_per_s: float = 0.0
    failed_per_s: float = 0.0
    retried_per_s: float = 0.0


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """A queue at one moment. The first six are the brief's.

    Attributes:
        queue_length: tasks in lanes that wait for a worker, without the running ones; see `TopicStats.length`.
        running_tasks: attempts that run now.
        completed_tasks: attempts that completed, of all workers whose heartbeats are still there.
        failed_tasks: tasks that ended without success, of the same.
        avg_process_time_s: mean processing time, weighted by type, over the last minute or so; 0 if nothing ran.
        worker_count: workers alive.
        delayed_tasks: tasks in tiers: they wait for a retry, or for the time that they are due.
        retried_attempts: attempts that failed and were followed by another.
        dead_letters: letters in the DLQ that were not replayed; an estimate where `dlq.exact` is false.
        workers_known: alive, and lost in the last five minutes.
        newer_workers: workers alive besides, of a newer fairlane whose heartbeats this one cannot read.
        held_back: partitions that a task holds back, the most held back first.
        paused: what operators have paused: lanes, types, or the queue.
        orders: what else they ask of all workers now, but for cancels: weights, kill-switches, demotions.
        queue: name of the queue.
        at_ms: when it was collected, Unix ms.
    """

    queue_length: int
    running_tasks: int
    completed_tasks: int
    failed_tasks: int
    avg_process_time_s: float
    worker_count: int
    queue: str
    at_ms: int
    p95_process_time_s: float = 0.0
    delayed_tasks: int = 0
    retried_attempts: int = 0
    dead_letters: int = 0
    workers_known: int = 0
    newer_workers: int = 0
    utilisation: float = 0.0
    slots: int = 0
    lag: int = 0
    rates: Rates = Rates()
    lanes: tuple[TopicStats, ...] = ()
    tiers: tuple[TopicStats, ...] = ()
    dlq: TopicStats | None = None
    workers: tuple[WorkerStats, ...] = ()
    pools: tuple[PoolStats, ...] = ()
    types: tuple[TypeStats, ...] = ()
    running: tuple[RunningStats, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    paused: tuple[ControlRecord, ...] = ()
    orders: tuple[ControlRecord, ...] = ()

    def to_json(self) -> bytes:
        """As JSON, by the names of the fields."""
        return msgspec.json.encode(self)
