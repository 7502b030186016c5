"""Parallel Consumer on records of a queue of fairlane's: what it is asked to do, and how much of it is a warm-up."""

from __future__ import annotations

from typing import Final

import parallel_consumer
from stage import Measured, Stage

from fairlane.topics.names import QueueNames

WARM_UP: Final = 0.1
"""Part of the records before which the JVM still compiles; it is not counted."""


def measure(
    stage: Stage, names: QueueNames, mode: str, records: int, *, concurrency: int, wait_ms: int = 0
) -> Measured:
    """Its rate from the first start after the warm-up to the last end, and how long that took.

    Args:
        stage: where Kafka is.
        names: of the queue; what `pollAndProduce` produces goes to its replies.
        mode: `poll` or `pollAndProduce`.
        records: so many, all of the queue.
        concurrency: how many at once.
        wait_ms: how long each waits; with it there is no warm-up, since waiting needs none.
    """
    warm_up = 0 if wait_ms else int(WARM_UP * records)
    topics = ",".join(lane.topic for lane in names.default_lanes())
    group = f"{names.queue}-{mode}"
    arguments = (stage.bootstrap, group, topics, names.replies, mode, records, warm_up, concurrency, wait_ms)
    command = [*parallel_consumer.command(stage.home), *map(str, arguments)]
    return stage.measure(command, stage.environment(names.queue))
