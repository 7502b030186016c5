"""Tasks that wait for 50 ms each, 500 at once: from the first start to the last end, beside what it takes at least."""

from __future__ import annotations

import load
from sizes import Sizes
from stage import Measured, Stage

CONCURRENCY = 500
WAIT_S = 0.05


def run(stage: Stage, sizes: Sizes) -> Measured:
    ideal_s = WAIT_S * -(-sizes.waits // CONCURRENCY)
    with stage.queue() as names:
        load.fill(stage.connection, names, sizes.waits)
        ours = stage.subject("drain", names.queue, "wait", sizes.waits, CONCURRENCY)
    return {"wait50_ideal_s": ideal_s, "wait50_s": ours["handlers_s"]}
