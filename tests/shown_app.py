"""The app of test_what_is_shown.py: handlers that do with their marked payloads all that can go wrong."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fairlane import BatchPolicy, Fairlane, Reject, RetryLater, RetryPolicy, context


@asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    if os.environ.get("SHOWN_CRASH"):
        raise RuntimeError(f"no vault for {os.environ['SHOWN_SECRETS']}")
    yield


app = Fairlane(os.environ["SHOWN_QUEUE"], lifespan=lifespan)
ONCE = RetryPolicy(max_attempts=1)
TWICE = RetryPolicy(max_attempts=2, base_s=1, factor=1, jitter=0)


class Order(BaseModel):
    card: str
    told: str


class Other(BaseModel):
    card: int
    told: str


def said(order: Order) -> str:
    """A part of the payload, and what nobody should put into an exception either."""
    return f"no card {order.told}, logged in by {os.environ['SHOWN_SECRETS']}"


@app.task()
async def completes(order: Order) -> str:
    return os.environ["SHOWN_RESULT"]


@app.task(retry=TWICE)
async def once(order: Order) -> str:
    if context().attempt == 1:
        raise ValueError(said(order))
    return os.environ["SHOWN_RESULT"]


@app.task(retry=ONCE)
async def caused(order: Order) -> None:
    try:
        raise KeyError(said(order))
    except KeyError as error:
        raise RuntimeError(said(order)) from error


@app.task(retry=ONCE)
def threaded(order: Order) -> None:
    threading.Thread(target=fails, args=(order,)).start()
    raise ValueError(said(order))


def fails(order: Order) -> None:
    raise ValueError(said(order))


@app.task()
async def leaves_behind(order: Order) -> None:
    loop = asyncio.get_running_loop()
    left = loop.create_task(left_task(order))
    loop.call_soon(fails, order)
    await asyncio.sleep(0.1)
    del left


async def left_task(order: Order) -> None:
    fails(order)


@app.task()
async def logs_it(order: Order) -> None:
    try:
        fails(order)
    except ValueError:
        context().log.exception("it failed")


@app.task(retry=ONCE)
async def rejects(order: Order) -> None:
    raise Reject(said(order))


def wait_until_seen() -> None:
    """In a heartbeat: the test says so."""
    while not Path("seen").exists():
        time.sleep(0.05)


@app.task(retry=TWICE)
async def later(order: Order) -> None:
    await asyncio.to_thread(wait_until_seen)
    raise RetryLater(1, said(order))


@app.task()
async def too_large(order: Order) -> str:
    return os.environ["SHOWN_RESULT"] * 20_000


@app.task(retry=ONCE, timeout_s=0.2)
async def takes_long(order: Order) -> None:
    await asyncio.sleep(60)


@app.task()
async def blocks(order: Order) -> None:
    time.sleep(0.7)  # noqa: ASYNC251 - that is what it is for


@app.task()
async def fits(order: Other) -> None: ...


@app.task()
async def emits(order: Order) -> None:
    context().emit("somebody-elses", os.environ["SHOWN_RESULT"].encode(), key=os.environ["SHOWN_RESULT"].encode())


@app.task(isolation="process", retry=ONCE)
def child_raises(order: Order) -> None:
    threading.Thread(target=fails, args=(order,)).start()
    try:
        fails(order)
    except ValueError:
        context().log.exception("it failed in a child")
        raise


@app.task(isolation="process", retry=RetryPolicy(base_s=0.1))
def child_dies(order: Order) -> None:
    os.abort()


@app.task(batch=BatchPolicy(max_size=10, max_wait_s=0.05), retry=ONCE)
async def batched(orders: list[Order]) -> list[Any]:
    return [ValueError(said(order)) for order in orders]


@app.task(batch=BatchPolicy(max_size=10, max_wait_s=0.05), retry=ONCE)
async def batch_raises(orders: list[Order]) -> None:
    raise ValueError(said(orders[0]))
