"""What is measured, by name and in order: each workload runs its subjects once, and returns their measurements.

Invariant: whoever runs all of them several times has every subject in every repeat, one after the other, so that the
noise of the machine hits all of them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from sizes import Sizes
from stage import Measured, Stage

from workloads import backlog, cpu5, delays, enqueue, fleet, latency, noop, restart, sync, waits


class Workload(NamedTuple):
    """One workload."""

    run: Callable[[Stage, Sizes], Measured]
    every_repeat: bool = True
    """False for what is not a rate that varies: once is enough."""


WORKLOADS: Final[Mapping[str, Workload]] = {
    "noop": Workload(noop.run),
    "sync": Workload(sync.run),
    "wait50": Workload(waits.run),
    "cpu5": Workload(cpu5.run),
    "enqueue": Workload(enqueue.run),
    "latency": Workload(latency.run),
    "backlog": Workload(backlog.run),
    "delays": Workload(delays.run),
    "restart": Workload(restart.run, every_repeat=False),
    "fleet": Workload(fleet.run, every_repeat=False),
}
