"""The tasks of the soak: of every kind that a worker knows, none of which means anything.

Invariant: what becomes of a task is known when it is enqueued: all complete but `dead`, and each `order` enqueues one
`follow`, by its outcome.
"""

from __future__ import annotations

import asyncio
import os
import time

from fairlane import Adaptive, BatchPolicy, Fairlane, Reject, RetryPolicy, context

app = Fairlane(os.environ.get("SOAK_QUEUE", "soak"))


@app.task(priority=5)
async def quick(number: int) -> int:
    """What is over at once; its producer waits for the result of some."""
    return number


@app.task(priority=4)
async def waiting(number: int) -> str:
    """What waits for somebody else, as most do."""
    await asyncio.sleep(0.02 + number % 5 * 0.02)
    return f"{number} has waited"


@app.task
def blocking(number: int) -> bytes | None:
    """A `def` handler, on a thread; with a result of some size now and then."""
    time.sleep(0.005)
    return b"x" * 5_000 if number % 10 == 0 else None


@app.task(concurrency=Adaptive(min=2, max=20))
async def adaptive(number: int) -> None:
    """One whose concurrency adapts."""
    await asyncio.sleep(0.01)


@app.task(retry=RetryPolicy(max_attempts=4, base_s=1, factor=1.5))
async def flaky(number: int) -> int:
    """Fails once or twice, goes through the tiers, and completes."""
    if context().attempt <= 1 + number % 2:
        raise ConnectionError(f"attempt {context().attempt} of {number} met nobody")
    return context().attempt


@app.task(priority=2, retry=RetryPolicy(max_attempts=2, base_s=0.2))
def dead(number: int) -> None:
    """Ends as a dead letter: half of them at once, half at the last attempt."""
    if number % 2:
        raise Reject(f"{number} is odd")
    raise ValueError(f"{number} is never right")


@app.task(priority=1)
async def delayed(number: int) -> float:
    """Enqueued for later."""
    return time.time()


@app.task(isolation="process", max_tasks_per_child=200)
def apart(number: int) -> list[int]:
    """In a child process, which is made anew now and then."""
    return list(range(number % 100))


@app.task(batch=BatchPolicy(max_size=20, max_wait_s=0.3))
async def many(numbers: list[int]) -> list[int | Exception]:
    """Many at once."""
    await asyncio.sleep(0.01)
    return [-number for number in numbers]


@app.task(priority=4)
async def order(number: int) -> None:
    """Enqueues a task by its outcome."""
    context().enqueue(follow.call(number))


@app.task(priority=4)
async def follow(number: int) -> None:
    """What an order has enqueued."""
