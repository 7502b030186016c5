"""Subject: the shares of the starts that lanes of weight 16:8:4:2:1 get while all of them have a backlog, and the rate.

Method: tasks wait on all lanes, as many on each. After the first ones, which warm it up, the next so many starts are
counted by lane; the error is the largest distance of a lane's share from its weight's, in percentage points. `bound`:
each handler waits 10 ms, and 20 slots are the limit. `full`: no-op handlers, as fast as it goes; the rate is that of
the counted starts, all in the steady state, where a start waits for an earlier settlement.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter

from fairlane import Fairlane
from fairlane.topics.names import DEFAULT_WEIGHTS, LEVELS
from subjects.hosting import run_until, tell

WORK_S = 0.01
BOUND_SLOTS = 20
FULL_SLOTS = 500


def error_points(starts: Counter[int]) -> float:
    """The largest distance of a share from its weight's, percentage points."""
    total, weights = starts.total(), sum(DEFAULT_WEIGHTS.values())
    return max(100 * abs(starts[level] / total - weight / weights) for level, weight in DEFAULT_WEIGHTS.items())


async def work(app: Fairlane, kind: str, warm_up: int, counted: int) -> dict[str, float]:
    starts: Counter[int] = Counter()
    done = asyncio.Event()
    left = warm_up
    began = took_s = 0.0

    def start(number: int) -> None:
        nonlocal left, began, took_s
        if left:
            left -= 1
            began = time.perf_counter()
        elif not took_s:
            starts[LEVELS[number % len(LEVELS)]] += 1
            if starts.total() >= counted:
                took_s = time.perf_counter() - began
                done.set()

    @app.task("noop")
    async def bound(number: int) -> int:
        start(number)
        if kind == "bound":
            await asyncio.sleep(WORK_S)
        return number

    await run_until(app, done, concurrency=BOUND_SLOTS if kind == "bound" else FULL_SLOTS, grace_s=5.0)
    shares = {f"p{level}": 100 * starts[level] / starts.total() for level in LEVELS}
    return {"error": error_points(starts), "per_s": counted / took_s, **shares}


def main(queue: str, kind: str, warm_up: int, counted: int) -> None:
    tell(asyncio.run(work(Fairlane(queue), kind, warm_up, counted)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
