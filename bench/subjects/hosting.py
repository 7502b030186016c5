"""A worker in a subject: made from an app as `fairlane worker` makes it, and ended when its subject has seen enough."""

from __future__ import annotations

import asyncio
import json
import logging

from fairlane import Fairlane
from fairlane.consumer.worker import Worker
from fairlane.working import process_worker_of

ENDS_WITHIN_S = 200.0

# A new queue has no committed offsets, which a worker warns of.
logging.basicConfig(level=logging.ERROR)


async def run_until(app: Fairlane, done: asyncio.Event, *, concurrency: int, grace_s: float = 30.0) -> None:
    """Run a worker until the event; then end it in good order.

    Raises:
        TimeoutError: the event did not come.
    """
    worker = process_worker_of(app, concurrency=concurrency, grace_s=grace_s)
    running = asyncio.create_task(worker.run())
    waiting = asyncio.create_task(done.wait())
    await asyncio.wait({running, waiting}, timeout=ENDS_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    worker.stop()
    await running
    if not done.is_set():
        raise TimeoutError(f"not done after {ENDS_WITHIN_S} s")


async def holding(worker: Worker, timeout_s: float = 60.0) -> None:
    """Until the worker has partitions."""
    async with asyncio.timeout(timeout_s):
        await asyncio.to_thread(worker.ready.wait, timeout_s)
        while not worker.vitals.facts().held:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.02)


def tell(measured: dict[str, float]) -> None:
    """The subject's last line."""
    print(json.dumps(measured), flush=True)
