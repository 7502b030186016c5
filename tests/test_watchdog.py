"""The watchdog on a real loop: who holds it up is named, with the task and the stack."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from waiting import wait_until
from worker_parts import config, delivery

from fairlane.consumer.aside import Aside
from fairlane.consumer.attempt import Attempts
from fairlane.consumer.executor import Executor
from fairlane.consumer.handlers import Handler
from fairlane.consumer.meter import Meter
from fairlane.consumer.threads import Threads
from fairlane.consumer.watchdog import Watchdog
from fairlane.topics.payload import Signature


@asynccontextmanager
async def watched(blocked_s: float = 0.2) -> AsyncIterator[Watchdog]:
    watchdog = Watchdog(blocked_s)
    watchdog.start()
    try:
        yield watchdog
    finally:
        watchdog.close()


def told(caplog: pytest.LogCaptureFixture, text: str) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.name == "fairlane.watchdog" and text in each.getMessage()]


def hold_up(caplog: pytest.LogCaptureFixture, times: int = 1) -> None:
    """Hold up this thread until the watchdog has said so."""
    wait_until(lambda: len(told(caplog, "has been blocked")) >= times, "the watchdog to notice")


async def goes_on(caplog: pytest.LogCaptureFixture, times: int = 1) -> None:
    await asyncio.to_thread(wait_until, lambda: len(told(caplog, "the event loop goes on")) >= times, "its end")


class OneTask:
    """A feed of one delivery, and a settler that takes what came of it."""

    waiting = delayed = backlog = backlog_bytes = 0
    next_due_ms = None
    adapts = False
    aside = Aside()

    def __init__(self) -> None:
        self.left = [delivery(task_type="resize")]
        self.outcomes: list[Any] = []

    def begin(self) -> None: ...
    def refresh(self, _now_ms: int) -> None: ...
    def done(self, _delivery: Any, _now_ms: int) -> None: ...

    def take(self, _free: int) -> list[Any]:
        taken, self.left = self.left, []
        return taken

    def post(self, outcome: Any) -> None:
        self.outcomes.append(outcome)


@pytest.mark.parametrize("awaits_first", [False, True])
def test_a_handler_that_blocks_is_named_with_its_task_and_its_stack(
    caplog: pytest.LogCaptureFixture, awaits_first: bool
) -> None:
    async def resize() -> None:
        if awaits_first:
            await asyncio.sleep(0.01)
        hold_up(caplog)

    handlers = {"resize": Handler("resize", resize, Signature.of(resize, task_type="resize"))}
    parts: Any = OneTask()
    settings = config()
    attempts = Attempts(settings, handlers, (), Threads())
    crashes: list[BaseException] = []
    executor = Executor(settings, parts, attempts, parts, Meter(10, ()), on_crash=crashes.append)

    async def watch() -> None:
        async with watched():
            executor.start()
            await goes_on(caplog)

    asyncio.run(watch())
    (began,), (ended,) = told(caplog, "has been blocked"), told(caplog, "the event loop goes on")
    assert began.levelname == ended.levelname == "ERROR"
    assert "by the handler of resize" in began.getMessage()
    assert began.stack_info is not None
    assert "hold_up(caplog)" in began.stack_info, "the stack says where"
    assert "run_forever" not in began.stack_info, "what is under every attempt says nothing"
    assert vars(began)["task_id"] == vars(ended)["task_id"] == "t-7"
    assert not crashes


def test_what_blocks_and_is_no_handler_is_named_by_its_asyncio_task(caplog: pytest.LogCaptureFixture) -> None:
    async def refresh_tokens() -> None:
        hold_up(caplog)

    async def watch() -> None:
        async with watched():
            await asyncio.create_task(refresh_tokens(), name="refresh-tokens")
            await goes_on(caplog)

    asyncio.run(watch())
    assert "by the asyncio task 'refresh-tokens'" in told(caplog, "has been blocked")[0].getMessage()


def test_every_incident_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def watch() -> None:
        async with watched():
            for times in (1, 2):
                hold_up(caplog, times)
                await goes_on(caplog, times)

    asyncio.run(watch())
    assert len(told(caplog, "has been blocked")) == len(told(caplog, "the event loop goes on")) == 2


def test_while_the_loop_is_held_up_it_owes_a_sign_and_afterwards_none(caplog: pytest.LogCaptureFixture) -> None:
    async def watch() -> None:
        async with watched() as watchdog:
            hold_up(caplog)
            asked_s = watchdog.asked_s
            assert asked_s is not None
            assert time.monotonic() - asked_s >= 0.2
            await goes_on(caplog)
            assert watchdog.asked_s is None or watchdog.asked_s > asked_s

    asyncio.run(watch())


def test_a_loop_that_is_closed_ends_nobody() -> None:
    made: list[Watchdog] = []

    async def start() -> None:
        made.append(Watchdog(0.04))
        made[0].start()

    asyncio.run(start())
    wait_until(lambda: made[0].asked_s is not None, "a question that nobody answers")
    made[0].close()
    assert "fairlane-watchdog" not in {thread.name for thread in threading.enumerate()}
