"""No-op tasks of plain `def` handlers: on two processes of eight threads, as Dramatiq has them by default on two cores,
and on 16 threads of one process.

Method: two processes are the command line's own, and are counted as Dramatiq's are (python_peers.py): from the first
handler to the last. That the second gets its partitions meanwhile (the group's heartbeats are 5 s apart by
default) counts against fairlane. One process is counted as
the no-op tasks of async handlers are, until Kafka has all of it as settled.
"""

from __future__ import annotations

import sys

import load
from sizes import Sizes
from stage import Measured, Stage

from workloads.python_peers import worked

THREADS = 16
PROCESSES = 2


def run(stage: Stage, sizes: Sizes) -> Measured:
    with stage.queue() as names:
        load.fill(stage.connection, names, sizes.sync)
        alone = stage.subject("drain", names.queue, "sync", sizes.sync, THREADS)
    with stage.queue() as names:
        load.fill(stage.connection, names, sizes.sync)
        command = [sys.executable, "-m", "fairlane", "worker", "subjects.burning:app", "--processes", str(PROCESSES)]
        command += ["--workers", str(THREADS // PROCESSES)]
        both = worked([command], stage.environment(names.queue), sizes.sync)
    return {"sync_per_s": both, "sync_one_process_per_s": alone["per_s"]}
