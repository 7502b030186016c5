"""Tasks of 5 ms of CPU each on two processes: what a queue leaves of the cores to the work itself.

Method: as for the no-op tasks of the peers (python_peers.py), but that the handler of each, fairlane's too, burns 5 ms
of its thread's CPU. Fairlane is its own command line, with two processes. Time runs from the first handler on, so that
the group's second member gets its partitions meanwhile counts against fairlane.
"""

from __future__ import annotations

import os
import sys

import load
import redis_server
import tally
from sizes import Sizes
from stage import Measured, Stage

from workloads.python_peers import ON_REDIS, on_redis, worked

PROCESSES = 2
CPU_MS = 5
BURN = {tally.CPU_MS: str(CPU_MS)}


def run(stage: Stage, sizes: Sizes) -> Measured:
    ideal_per_s = min(PROCESSES, os.cpu_count() or 1) * 1000 / CPU_MS
    measured: Measured = {"cpu5_ideal_per_s": ideal_per_s}
    with stage.queue() as names:
        load.fill(stage.connection, names, sizes.burns)
        command = [sys.executable, "-m", "fairlane", "worker", "subjects.burning:app", "--processes", str(PROCESSES)]
        measured["cpu5_per_s"] = worked([command], stage.environment(names.queue, BURN), sizes.burns)
    for peer in ON_REDIS:
        reason = stage.lacks(peer.name) or redis_server.missing()
        if reason:
            stage.missing[f"{peer.name}_cpu5_per_s"] = reason
        else:
            measured[f"{peer.name}_cpu5_per_s"] = on_redis(stage, peer, sizes.burns, BURN)[f"{peer.name}_per_s"]
    return measured
