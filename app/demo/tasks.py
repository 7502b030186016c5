"""The tasks of a shop; `fairlane worker fairlane.demo.tasks:app` runs them."""

import asyncio
import time

from fairlane import Fairlane, RetryPolicy, context

app = Fairlane("shop")


@app.task(priority=5)
async def send_receipt(order: int, to: str) -> str:
    """Priority 5 goes first. `async def` runs on the event loop."""
    await asyncio.sleep(0.1)
    return f"receipt for order {order} sent to {to}"


@app.task(priority=4, retry=RetryPolicy(max_attempts=5, base_s=1))
async def charge_card(order: int, cents: int) -> str:
    """Every tenth card fails the first time, and is tried again after 1 s (then 2 s, 4 s, 8 s)."""
    await asyncio.sleep(0.1)
    if order % 10 == 0 and context().attempt == 1:
        raise ConnectionError("the bank hung up")
    return f"order {order}: {cents / 100:.2f} charged"


@app.task
def resize_image(path: str, width: int) -> str:
    """Priority 3 is the default. A plain `def` runs on a thread of its own, so it may block."""
    time.sleep(0.1)
    return f"{path} is {width} pixels wide"


@app.task(priority=2, retry=RetryPolicy(max_attempts=3, base_s=1))
def import_legacy(file: str) -> None:
    """What fails at every attempt ends in the dead letter queue, with its reason."""
    raise ValueError(f"{file}: line 1 is no CSV")


@app.task(priority=1)
async def nightly_report(day: int) -> str:
    """Priority 1 waits while others are more urgent, but never forever."""
    await asyncio.sleep(0.1)
    return f"the report of day {day} is written"
