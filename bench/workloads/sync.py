"""No-op tasks of plain `def` handlers on 16 threads of one worker process."""

from __future__ import annotations

import load
from sizes import Sizes
from stage import Measured, Stage

THREADS = 16


def run(stage: Stage, sizes: Sizes) -> Measured:
    with stage.queue() as names:
        load.fill(stage.connection, names, sizes.sync)
        ours = stage.subject("drain", names.queue, "sync", sizes.sync, THREADS)
    return {"sync_per_s": ours["per_s"]}
