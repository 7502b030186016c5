"""The workers of a queue as text and as JSON: who they are, what they do, what they have left to do.

Invariant: it only shows; the numbers are those of a snapshot.
"""

from __future__ import annotations

import msgspec

from fairlane.monitor.held_back_view import held_back_lines
from fairlane.monitor.section import Column, Section
from fairlane.monitor.show import age, visible
from fairlane.monitor.stats import PoolStats, Stats, WorkerStats
from fairlane.topics.held_back import HeldBack


class _Workers(msgspec.Struct, frozen=True, kw_only=True):
    queue: str
    at_ms: int
    worker_count: int
    workers_known: int
    newer_workers: int
    workers: tuple[WorkerStats, ...]
    pools: tuple[PoolStats, ...]
    held_back: tuple[HeldBack, ...]


def workers_json(stats: Stats) -> bytes:
    """The workers as JSON, by the names that a snapshot has for them."""
    return msgspec.json.encode(
        _Workers(
            queue=stats.queue,
            at_ms=stats.at_ms,
            worker_count=stats.worker_count,
            workers_known=stats.workers_known,
            newer_workers=stats.newer_workers,
            workers=stats.workers,
            pools=stats.pools,
            held_back=stats.held_back,
        )
    )


def workers_lines(stats: Stats) -> tuple[str, ...]:
    """What they are together, and whether there are more than can have something to do."""
    lines = [
        f"Workers: {stats.worker_count}/{stats.workers_known} active",
        f"Running Tasks: {stats.running_tasks} of {stats.slots}, {stats.utilisation:.0%} busy",
    ]
    lines += newer_lines(stats)
    lines += [pool_line(pool) for pool in stats.pools]
    most = max((lane.partitions for lane in stats.lanes), default=0)
    if stats.worker_count > most:
        idle = stats.worker_count - most
        lines.append(
            f"{idle} of them {'has' if idle == 1 else 'have'} nothing to do: a lane has {most} partitions, and "
            f"only one worker reads each. `fairlane topics grow --queue {stats.queue}` makes more"
        )
    return (*lines, *held_back_lines(stats))


def newer_lines(stats: Stats) -> tuple[str, ...]:
    """That there are workers which cannot be read."""
    if not stats.newer_workers:
        return ()
    return (f"Newer workers: {stats.newer_workers}, which this fairlane is too old to read and does not count",)


def pool_line(pool: PoolStats) -> str:
    """How many processes a pool has, and what it last decided, in one line."""
    line = f"Pool {pool.name}: {pool.processes} of {pool.least} to {pool.most} processes"
    return visible(f"{line}; {age(pool.age_ms)} ago {pool.reason}" if pool.reason else line)


def workers_table(stats: Stats) -> Section:
    """A row for each worker."""
    columns = (
        Column("Worker", right=False, least=8),
        Column("State", right=False),
        Column("Running"),
        Column("Busy", rank=1),
        Column("Partitions", rank=4),
        Column("Lag", rank=2),
        Column("Up", rank=5),
        Column("Heard", rank=3),
        Column("Host", right=False, rank=6, least=8),
        Column("Pid", rank=7),
        Column("Version", right=False, rank=8),
    )
    return Section(columns, tuple(_row(worker) for worker in stats.workers))


def _row(worker: WorkerStats) -> tuple[str, ...]:
    is_gone = worker.state in ("lost", "stopped")
    return (
        visible(worker.worker),
        worker.state,
        "-" if is_gone else f"{worker.running}/{worker.concurrency}",
        "-" if is_gone else f"{worker.utilisation:.0%}",
        "-" if is_gone else str(worker.partitions),
        "-" if is_gone else f"{worker.lag:,}",
        age(worker.uptime_ms),
        f"{age(worker.age_ms)} ago",
        visible(worker.host) or "-",
        str(worker.pid) if worker.pid else "-",
        visible(worker.version) or "-",
    )
