"""Lanes with a backlog: the shares they get, and whether a long backlog costs throughput."""

from __future__ import annotations

import load
from sizes import Sizes
from stage import Measured, Stage

from fairlane.topics.names import LEVELS

BURSTS = {"10k": (10_000, 7), "100k": (100_000, 1)}
"""Backlogs beside the large one, and how often each is worked off."""

P5_SHARE = 16 / 31


def run(stage: Stage, sizes: Sizes) -> Measured:
    measured: Measured = {}
    # The starts that are counted end before the first lane, the most urgent, has no more.
    starts = int(0.8 * sizes.backlog / 5 / P5_SHARE) - 2 * sizes.bound
    with stage.queue() as names:
        load.fill(stage.connection, names, sizes.backlog)
        bound = stage.subject("shares", names.queue, "bound", sizes.bound // 10, sizes.bound)
        full = stage.subject("shares", names.queue, "full", starts // 5, starts - starts // 5)
    for name, (tasks, times) in BURSTS.items():
        with stage.queue() as names:
            tasks = min(tasks, sizes.backlog)
            measured[f"backlog_{name}_per_s"] = stage.subject("bursts", names.queue, tasks, times)["per_s"]
    measured |= {f"share_p{level}_full": full[f"p{level}"] for level in LEVELS}
    return measured | {
        "share_error_bound": bound["error"],
        "share_error_full": full["error"],
        "backlog_1m_per_s": full["per_s"],
    }
