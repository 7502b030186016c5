"""From enqueue to start: idle, and with all lanes below full; there the worker's memory is watched too."""

from __future__ import annotations

import load
from sizes import Sizes
from stage import Measured, Stage

BELOW = (4, 3, 2, 1)
FAR_S = (3.0, 30.0, 300.0, 3_600.0, 86_400.0)
"""Delays of the tasks that only wait: some in each tier, and a fifth of them due while it is watched."""


def run(stage: Stage, sizes: Sizes) -> Measured:
    with stage.queue() as names:
        idle = stage.subject("latency", names.queue, sizes.probes, 0)
    with stage.queue() as names:
        load.delay(stage.connection, names, sizes.far, "later", FAR_S)
        load.fill(stage.connection, names, sizes.backlog, "work", levels=BELOW)
        loaded = stage.subject("latency", names.queue, sizes.probes, sizes.memory_s)
    return {
        "idle_p50_ms": idle["p50_ms"],
        "idle_p99_ms": idle["p99_ms"],
        "loaded_p50_ms": loaded["p50_ms"],
        "loaded_p99_ms": loaded["p99_ms"],
        "rss_mib": loaded["rss_mib"],
        "rss_growth_mib": loaded["rss_growth_mib"],
        "rss_idle_mib": idle["rss_mib"],
    }
