"""Attempts of plain `def` handlers on threads: each is handed on once, whatever its thread does; none holds others."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest
from worker_parts import config, delivery

from fairlane.consumer import threads as on_threads
from fairlane.consumer.attempt import Attempts
from fairlane.consumer.context import context
from fairlane.consumer.delivery import Delivery
from fairlane.consumer.handlers import Handler
from fairlane.consumer.outcome import Completed, HandedBack, Outcome, Retrying
from fairlane.consumer.thread_attempts import ThreadAttempts
from fairlane.consumer.threads import Threads
from fairlane.topics.clock import now_ms
from fairlane.topics.payload import Signature

who: ContextVar[str] = ContextVar("who", default="nobody")


class Bench:
    """Attempts of one handler, and what they led to in the order in which they were handed on."""

    def __init__(self, function: Callable[..., Any], **policies: Any) -> None:
        handler = Handler("send", function, Signature.of(function, task_type="send"), **policies)
        self.threads = Threads()
        self.attempts = Attempts(config(), {"send": handler}, (), self.threads)
        self.crashes: list[BaseException] = []
        self.ended: list[tuple[Delivery, Outcome]] = []
        self._changed = asyncio.Event()
        self.runs = ThreadAttempts(self.attempts, self._take, on_crash=self.crashes.append)
        self.runs.begin()

    def _take(self, ended: list[tuple[Delivery, Outcome]]) -> None:
        self.ended += ended
        self._changed.set()

    def start(self, count: int, **fields: Any) -> None:
        assert self.runs.start([delivery(offset, **fields) for offset in range(count)], now_ms()) == []

    async def led_to(self, count: int) -> list[Outcome]:
        """Wait for so many outcomes."""
        while len(self.ended) < count:
            self._changed.clear()
            await self._changed.wait()
        assert len(self.ended) == count
        return [outcome for _, outcome in self.ended]


def run(function: Callable[..., Any], body: Callable[[Bench], Awaitable[None]], **policies: Any) -> None:
    async def main() -> None:
        bench = Bench(function, **policies)
        try:
            async with asyncio.timeout(90):
                await body(bench)
            assert bench.crashes == []
        finally:
            bench.threads.close()

    asyncio.run(main())


async def happened(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


def nothing() -> None: ...


def test_all_that_start_are_handed_on_once() -> None:
    async def body(bench: Bench) -> None:
        for _ in range(20):
            bench.start(100)
        outcomes = await bench.led_to(2_000)
        assert all(isinstance(outcome, Completed) for outcome in outcomes)
        assert bench.runs.running == []

    run(nothing, body)


def test_as_many_run_at_once_as_start_however_long_each_of_them_takes() -> None:
    together = threading.Barrier(16)

    def meet() -> None:
        together.wait(10)

    async def body(bench: Bench) -> None:
        bench.start(16)
        assert all(isinstance(outcome, Completed) for outcome in await bench.led_to(16))

    run(meet, body)


def test_one_that_waits_holds_none_that_start_with_it_or_after_it() -> None:
    release = threading.Event()

    def wait(first: bool = False) -> None:
        if first:
            assert release.wait(60)

    async def body(bench: Bench) -> None:
        bench.start(3, payload=b'{"first": true}')
        bench.start(50)
        await bench.led_to(50)
        assert len(bench.runs.running) == 3
        release.set()
        await bench.led_to(53)

    run(wait, body)


def test_what_an_attempt_sets_in_its_context_is_gone_for_the_next_one_on_its_thread() -> None:
    seen: list[tuple[str, str]] = []

    def leave() -> None:
        seen.append((who.get(), context().task.id))
        who.set("somebody")

    async def body(bench: Bench) -> None:
        bench.start(50)
        await bench.led_to(50)
        assert sorted(seen) == sorted(("the worker", f"t-{offset}") for offset in range(50))

    who.set("the worker")
    try:
        run(leave, body)
    finally:
        who.set("nobody")


def test_an_attempt_that_its_thread_does_not_come_back_from_has_failed_when_the_patience_is_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(on_threads, "INTERRUPT_PATIENCE_S", 0.05)
    begun, release = threading.Event(), threading.Event()

    def stuck() -> str:
        begun.set()
        release.wait(10)  # one call into C: an interruption comes only after it
        return "too late"

    async def body(bench: Bench) -> None:
        bench.start(1)
        (outcome,) = await bench.led_to(1)
        assert isinstance(outcome, Retrying)
        assert outcome.error is not None
        assert (outcome.error.type, outcome.error.message) == ("AttemptTimeout", "the attempt took longer than 0.02 s")
        left = [thread for thread in threading.enumerate() if thread.name.startswith("fairlane-handler")]
        release.set()
        await asyncio.to_thread(left[-1].join, 10)
        await asyncio.sleep(0)
        await bench.led_to(1)
        assert bench.threads.abandoned == 1
        begun.clear()
        bench.start(1)
        await happened(begun)
        await bench.led_to(2)

    with caplog.at_level(logging.ERROR, "fairlane.executor"):
        run(stuck, body, timeout_s=0.02)
    assert "its thread is left behind" in caplog.text


def test_a_shutdown_does_not_wait_longer_than_its_patience_for_one_that_is_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_threads, "INTERRUPT_PATIENCE_S", 0.05)
    begun, release = threading.Event(), threading.Event()

    def stuck() -> None:
        begun.set()
        release.wait(10)

    async def body(bench: Bench) -> None:
        bench.start(1)
        await happened(begun)
        bench.attempts.leaving = True
        bench.runs.stop()
        assert [type(outcome) for outcome in await bench.led_to(1)] == [HandedBack]
        release.set()

    run(stuck, body)


def test_each_is_cut_off_at_its_own_time_though_they_share_a_timer() -> None:
    def turn(seconds: float) -> float:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.001)
        return seconds

    async def body(bench: Bench) -> None:
        bench.start(1, timeout_ms=10_000, payload=b'{"seconds": 0.2}')
        bench.start(1, timeout_ms=50, payload=b'{"seconds": 10}')
        bench.start(1, timeout_ms=120, payload=b'{"seconds": 10}')
        outcomes = await bench.led_to(3)
        assert {each.error.message for each in outcomes if isinstance(each, Retrying)} == {
            "the attempt took longer than 0.05 s",
            "the attempt took longer than 0.12 s",
        }
        assert sum(isinstance(each, Completed) for each in outcomes) == 1, "another's time was up, not its own"
        # The timer has nothing to look after now, and a new one is noticed all the same.
        bench.start(1, timeout_ms=50, payload=b'{"seconds": 10}')
        await bench.led_to(4)

    run(turn, body)


def test_many_that_are_cut_off_or_just_through_leave_their_threads_usable() -> None:
    """An interruption is for one attempt: it must never hit what the thread does after its handler."""

    def turn() -> None:
        until = time.monotonic() + 0.002
        while time.monotonic() < until:
            pass

    async def body(bench: Bench) -> None:
        for round_ in range(1, 40):
            bench.start(8)
            outcomes = await bench.led_to(8 * round_)
        kinds = {outcome.error.type if isinstance(outcome, Retrying) else "" for outcome in outcomes}
        assert kinds <= {"", "AttemptTimeout"}
        assert bench.threads.abandoned == 0

    run(turn, body, timeout_s=0.002)


def test_a_bug_in_an_attempt_ends_the_worker_and_not_the_thread() -> None:
    async def body(bench: Bench) -> None:
        attempt, bench.attempts.run = bench.attempts.run, broken  # type: ignore[assignment, method-assign]
        bench.start(1)
        while not bench.crashes:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        assert isinstance(bench.crashes.pop(), ZeroDivisionError)
        bench.attempts.run = attempt  # type: ignore[method-assign]
        bench.start(1)
        await bench.led_to(1)

    async def broken(*_: Any) -> Outcome:
        raise ZeroDivisionError

    run(nothing, body)


def test_one_that_has_ended_is_handed_on_though_its_thread_took_the_next_one_and_waits() -> None:
    release = threading.Event()

    def wait(long: bool = False) -> None:
        if long:
            assert release.wait(60)

    async def body(bench: Bench) -> None:
        quick, long = delivery(1), delivery(2, payload=b'{"long": true}')
        bench.runs.start([quick, long], now_ms())
        await bench.led_to(1)
        assert [each for each, _ in bench.ended] == [quick]
        release.set()
        await bench.led_to(2)

    run(wait, body)
