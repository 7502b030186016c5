"""The tasks of the storm: one type for each thing that can become of a task; and the log of who ran what.

Invariant: a run is in the log before anything else of it happens, and stays there whatever kills the process.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Final

import msgspec

from chaos.accounts import Run
from fairlane import BatchPolicy, Context, Fairlane, Reject, RetryLater, RetryPolicy, TaskDefinition, context

QUEUE: Final = os.environ.get("CHAOS_QUEUE", "chaos")
WORKER: Final = os.environ.get("CHAOS_WORKER", "")
RUNS: Final = os.environ.get("CHAOS_RUNS", "")

CHILD: Final = "-child"
"""What the id of a child has after its parent's."""

app = Fairlane(QUEUE)


def log_run(each: Context) -> None:
    task = each.task
    run = Run(time.time(), WORKER, task.type, str(task.origin), each.attempt, task.handbacks)
    # One write to a file opened to append: whole, in order, and in the system's hands when the process is killed.
    file = os.open(f"{RUNS}/{WORKER}.runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, msgspec.json.encode(run) + b"\n")
    finally:
        os.close(file)


@app.task()
async def quick(number: int) -> int:
    log_run(context())
    return number


@app.task()
async def slow(number: int) -> int:
    log_run(context())
    await asyncio.sleep(0.5 + number % 40 / 10)
    return number


@app.task()
def threaded(number: int) -> int:
    log_run(context())
    time.sleep(0.02)
    return number


@app.task(isolation="process")
def isolated(number: int) -> int:
    log_run(context())
    return number


@app.task(retry=RetryPolicy(max_attempts=6, base_s=0.5, factor=3, max_s=7))
async def flaky(number: int) -> int:
    """Fails one to three times: the waits are in memory at first, then in a tier."""
    log_run(context())
    if context().attempt <= 1 + number % 3:
        raise ConnectionError("flaky")
    return number


@app.task(retry=RetryPolicy(max_attempts=2, base_s=0.2))
async def dead(number: int) -> int:
    log_run(context())
    raise ValueError(f"{number} is no good")


@app.task()
async def rejected(number: int) -> int:
    log_run(context())
    raise Reject("not wanted")


@app.task()
async def later(number: int) -> int:
    log_run(context())
    if context().attempt == 1:
        raise RetryLater(1.0 + number % 6, "not yet")
    return number


@app.task()
async def delayed(number: int) -> int:
    log_run(context())
    return number


@app.task()
async def parent(number: int) -> int:
    """Sends one child, in the transaction of its own outcome."""
    log_run(context())
    context().enqueue(child.options(id=context().task.id + CHILD).call(number))
    return number


@app.task()
async def child(number: int) -> int:
    log_run(context())
    return number


@app.task(batch=BatchPolicy(max_size=20, max_wait_s=0.2))
async def batched(items: list[int]) -> list[int]:
    for each in context().each:
        log_run(each)
    return items


WEIGHTS: Final[dict[TaskDefinition[..., Any], int]] = {
    quick: 40,
    threaded: 10,
    batched: 10,
    flaky: 12,
    delayed: 10,
    dead: 6,
    parent: 6,
    slow: 5,
    rejected: 4,
    later: 4,
    isolated: 3,
}
"""How often each is enqueued, in relation to the others."""

FAILS: Final = frozenset({"dead", "rejected"})
"""The types whose tasks end as dead letters; all others complete."""
