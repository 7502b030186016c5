"""All that a worker is told, once, frozen: where, what, how much, how long."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from fairlane.consumer.handlers import HeadOfLine
from fairlane.consumer.head_of_line import RECORDS
from fairlane.topics.connection import Connection
from fairlane.topics.errors import UsageError
from fairlane.topics.ids import new_id
from fairlane.topics.names import DEFAULT_TIERS, Lane, QueueNames, Tier
from fairlane.topics.offset_map import MAX_SPAN, MAX_UNFINISHED

TIERS_ACCOUNT: Final = "tiers"
"""The back-pressure account of everything read from tiers."""


def default_worker_name() -> str:
    """Host and process: unique among the workers of a queue that run now."""
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True)
class WorkerConfig:
    """The settings of one worker process.

    Attributes:
        connection: to Kafka.
        queue: its name.
        lanes: what is read; the queue's default lanes if empty.
        tiers: of the queue, ascending.
        worker: the worker's name; unique among those that run.
        instance_id: static membership (`group.instance.id`): a supervised worker that restarts within the session
            timeout keeps its partitions. None for a worker that nobody restarts under the same name.
        concurrency: attempts that run at once.
        adaptive_min: from how many on the concurrency of each task type adapts that says nothing of it, up to what the
            worker runs at once; None is not at all.
        grace_s: how long a shutdown waits for running attempts, seconds.
        revoke_grace_s: how long a partition that leaves waits for its running attempts, seconds.
        buffer_records: records read ahead over all lanes, shared out by weight.
        buffer_bytes: bytes read ahead over all lanes and tiers; a quarter of it besides for what is not due yet.
        delayed_max: tasks from tiers held in memory at once.
        unsettled_max: outcomes that may wait for their settlement before no further task starts.
        result_max_bytes: the largest result that is stored.
        linger_max_s: how long a settlement may wait for company while commits are slow, seconds.
        no_handler_s: how long a task waits for a worker that has its handler, seconds.
        worker_lost_max: after how many dead workers, or child processes, the task that each of them ran is dead too; at
            least 2, since after one death of a worker nobody knows whose doing it was.
        child_idle_s: how long a child process that nobody needs is kept, beyond one of each handler, seconds; None is
            as long as the worker.
        keep_s: how long settled records stay in lanes and tiers for replay before they are deleted, seconds; None is
            for ever.
        trim_period_s: how often it is looked at, seconds.
        health_port: where `/livez`, `/readyz` and `/metrics` are answered; 0 is any port that is free, None is nowhere.
        health_host: the address that it listens on.
        loop_blocked_s: how long a handler may hold up the event loop before it is called blocked, seconds.
        head_of_line: what becomes of a task that holds back its partition, unless its handler says: `move`d aside, or
            only `show`n.
        head_of_line_records: how many finished records it holds back before that.
        head_of_line_s: for how long it does, seconds.
        start_wait_s: how long a fresh worker reads ahead at most, from its first partition on, before it starts the
            first task, seconds.
        connect: what the app of a task is told in a child process, where the options of the command line are not known.
    """

    connection: Connection
    queue: str
    lanes: tuple[Lane, ...] = ()
    tiers: tuple[Tier, ...] = DEFAULT_TIERS
    worker: str = field(default_factory=default_worker_name)
    instance_id: str | None = None
    concurrency: int = 10
    adaptive_min: int | None = None
    grace_s: float = 30.0
    revoke_grace_s: float = 5.0
    buffer_records: int = 16_000
    buffer_bytes: int = 64 << 20
    delayed_max: int = 10_000
    unsettled_max: int = 20_000
    result_max_bytes: int = 64 << 10
    linger_max_s: float = 0.2
    no_handler_s: float = 3_600.0
    worker_lost_max: int = 3
    child_idle_s: float | None = 120.0
    keep_s: float | None = 7 * 86_400.0
    trim_period_s: float = 600.0
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    loop_blocked_s: float = 1.0
    head_of_line: HeadOfLine = "move"
    head_of_line_records: int = RECORDS
    head_of_line_s: float = 5.0
    start_wait_s: float = 0.5
    start: str = field(default_factory=new_id)
    connect: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise UsageError(f"concurrency is {self.concurrency}", "Give 1 or more")
        if self.adaptive_min is not None and not 1 <= self.adaptive_min < self.concurrency:
            raise UsageError(f"adaptive_min is {self.adaptive_min}", f"Give 1 to {self.concurrency - 1}, or None")
        if self.worker_lost_max < 2:
            raise UsageError(f"worker_lost_max is {self.worker_lost_max}", "Give 2 or more")
        if self.child_idle_s is not None and not 1 <= self.child_idle_s < math.inf:
            raise UsageError(f"child_idle_s is {self.child_idle_s}", "Give seconds from 1 on, or None to keep them all")
        if not 1 <= self.head_of_line_records <= MAX_SPAN:
            raise UsageError(
                f"head_of_line_records is {self.head_of_line_records}",
                f"Give 1 to {MAX_SPAN:,}: beyond that a partition may have only {MAX_UNFINISHED:,} unfinished records",
            )
        if self.grace_s < 0:
            raise UsageError(f"grace_s is {self.grace_s}", "Give seconds from 0 on")
        if not self.tiers or list(self.tiers) != sorted(set(self.tiers)):
            raise UsageError("the tiers are not in ascending order", "Give at least one, the shortest first")
        if not self.lanes:
            object.__setattr__(self, "lanes", self.names.default_lanes())
        topics = [lane.topic for lane in self.lanes]
        levels = [lane.level for lane in self.lanes]
        if len(set(topics)) < len(topics) or len(set(levels)) < len(levels):
            raise UsageError("two lanes have the same topic or level", "Give each lane its own")

    @cached_property
    def names(self) -> QueueNames:
        """The names of the queue's topics."""
        return QueueNames(self.queue)

    @property
    def transactional_id_prefix(self) -> str:
        """What every transactional id of this process start begins with."""
        return f"fairlane-{self.queue}-{self.worker}-{self.start}"

    def tier_of(self) -> dict[str, Tier]:
        """The tiers by their topic."""
        return {self.names.tier(tier): tier for tier in self.tiers}
