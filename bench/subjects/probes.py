"""Sends tasks of p5 that carry the time at which they were enqueued, to latency.py; no two at the same distance."""

from __future__ import annotations

import random
import sys
import time

from fairlane import Fairlane

MEAN_S = 0.02


def main(queue: str, probes: int) -> None:
    rng = random.Random(1)
    with Fairlane(queue) as app:
        for _ in range(probes):
            app.enqueue("probe", {"sent_ns": time.time_ns()}, priority=5)
            time.sleep(MEAN_S * rng.uniform(0.5, 1.5))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
