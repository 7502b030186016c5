"""Tasks that wait for 50 ms each, 500 at once: from the first start to the last end, beside what it takes at least."""

from __future__ import annotations

import load
import parallel_consumer
from sizes import Sizes
from stage import Measured, Stage

from workloads.parallel_consumer import measure

CONCURRENCY = 500
WAIT_S = 0.05


def run(stage: Stage, sizes: Sizes) -> Measured:
    ideal_s = WAIT_S * -(-sizes.waits // CONCURRENCY)
    with stage.queue() as names:
        load.fill(stage.connection, names, sizes.waits)
        ours = stage.subject("drain", names.queue, "wait", sizes.waits, CONCURRENCY)
        measured = {"wait50_ideal_s": ideal_s, "wait50_s": ours["handlers_s"]}
        if reason := parallel_consumer.missing(stage.home):
            stage.missing["parallel_consumer_wait50_s"] = reason
            return measured
        theirs = measure(stage, names, "poll", sizes.waits, concurrency=CONCURRENCY, wait_ms=int(1000 * WAIT_S))
    return measured | {"parallel_consumer_wait50_s": theirs["took_s"]}
