"""Threads for `def` handlers: what they return, how they are interrupted, and which slot is whose."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from fairlane.consumer import threads as on_threads
from fairlane.consumer.threads import Call, Hand, Interrupted, Threads

who: ContextVar[str] = ContextVar("who", default="nobody")


def run(body: Callable[[Threads], Awaitable[Any]]) -> Any:
    """Run a coroutine with threads of its own."""

    async def main() -> Any:
        threads = Threads()
        try:
            async with asyncio.timeout(90):
                return await body(threads)
        finally:
            threads.close()

    return asyncio.run(main())


def call(
    threads: Threads, function: Callable[[], Any], on_timeout: Callable[[], None] = lambda: None
) -> Awaitable[Any]:
    return threads.run(function, copy_context(), on_timeout)


async def wait_for(event: threading.Event) -> None:
    """Wait for an event of a thread without holding up the loop."""
    assert await asyncio.to_thread(event.wait, 10)


class Loop:
    """A call that turns in circles until it is stopped, and says when it has begun and ended."""

    def __init__(self) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        try:
            while True:
                time.sleep(0.001)
        finally:
            self.ended.set()


def test_a_call_runs_on_a_thread_and_returns_what_it_returned() -> None:
    async def body(threads: Threads) -> None:
        assert await call(threads, lambda: 5) == 5
        name = await call(threads, lambda: threading.current_thread().name)
        assert name.startswith("fairlane-handler")

    run(body)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_call_raises_is_raised_here_and_the_thread_goes_on(error: BaseException) -> None:
    async def body(threads: Threads) -> None:
        def fail() -> None:
            raise error

        with pytest.raises(type(error)):
            await call(threads, fail)
        assert await call(threads, lambda: 5) == 5
        assert threads._count == 1

    run(body)


def test_a_call_sees_the_context_variables_that_it_is_given() -> None:
    async def body(threads: Threads) -> None:
        who.set("ada")
        assert await call(threads, who.get) == "ada"

    run(body)


def test_there_are_as_many_threads_as_calls_at_once_and_no_more() -> None:
    async def body(threads: Threads) -> None:
        barrier = threading.Barrier(3)
        await asyncio.gather(*[call(threads, lambda: barrier.wait(10)) for _ in range(3)])
        for _ in range(20):
            await call(threads, lambda: None)
        assert threads._count == 3

    run(body)


def test_a_call_in_a_loop_is_interrupted_and_its_end_is_waited_for() -> None:
    async def body(threads: Threads) -> None:
        turning, told = Loop(), threading.Event()
        task = asyncio.ensure_future(call(threads, turning, told.set))
        await wait_for(turning.begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert turning.ended.is_set(), "its slot is taken until it has really returned"
        assert told.is_set(), "it was asked before it was made to"
        assert await call(threads, lambda: 5) == 5
        assert threads._count == 1, "the thread is used again"

    run(body)


def test_an_interruption_is_held_by_no_except_clause_for_exceptions() -> None:
    async def body(threads: Threads) -> None:
        begun = threading.Event()

        def stubborn() -> None:
            while True:
                try:
                    begun.set()
                    time.sleep(0.001)
                except Exception:  # noqa: BLE001
                    pass

        task = asyncio.ensure_future(call(threads, stubborn))
        await wait_for(begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(body)


def test_a_call_that_ends_by_itself_when_it_is_asked_has_its_result() -> None:
    async def body(threads: Threads) -> None:
        asked, begun = threading.Event(), threading.Event()

        def polite() -> str:
            begun.set()
            with contextlib.suppress(Interrupted):
                assert asked.wait(60)
            return "partial"

        task = asyncio.ensure_future(call(threads, polite, asked.set))
        await wait_for(begun)
        task.cancel()
        assert await task == "partial"

    run(body)


def test_a_call_that_was_stopped_before_its_thread_began_does_not_begin() -> None:
    async def body(threads: Threads) -> None:
        begun = threading.Event()
        threads._seekers.append(None)  # a thread that gets no turn until after the cancellation
        task = asyncio.ensure_future(call(threads, begun.set))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        threading.Thread(target=threads._serve, name="fairlane-handler-late", daemon=True).start()
        threads._count += 1
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not begun.is_set()

    run(body)


def test_a_call_that_does_not_return_from_c_code_is_left_behind_and_a_new_thread_takes_its_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_threads, "INTERRUPT_PATIENCE_S", 0.05)

    async def body(threads: Threads) -> None:
        begun, release = threading.Event(), threading.Event()

        def stuck() -> None:
            begun.set()
            release.wait(10)  # one call into C: an interruption comes only after it

        task = asyncio.ensure_future(call(threads, stuck))
        await wait_for(begun)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert threads.abandoned == 1
        assert await call(threads, lambda: 5) == 5
        assert threads._count == 2
        release.set()

    run(body)


def test_many_calls_that_are_interrupted_leave_their_threads_usable() -> None:
    """An interruption is for one call: it must never hit the next one on the same thread."""

    async def body(threads: Threads) -> None:
        for round_ in range(60):
            turning = Loop()
            task = asyncio.ensure_future(call(threads, turning))
            await wait_for(turning.begun)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await call(threads, lambda: sum(range(1_000))) == 499_500, f"round {round_}"
        assert threads._count == 1

    run(body)


def test_a_cancellation_that_meets_the_end_of_a_call_is_one_or_the_other() -> None:
    async def body(threads: Threads) -> None:
        async def one(number: int) -> object:
            task = asyncio.ensure_future(call(threads, lambda: number))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            task.cancel()
            try:
                return await task
            except asyncio.CancelledError:
                return "cancelled"

        for number in range(300):
            assert await one(number) in (number, "cancelled")
        assert await call(threads, lambda: 5) == 5

    run(body)


def test_threads_that_are_idle_end_when_they_are_closed() -> None:
    before = set(threading.enumerate())

    async def body(threads: Threads) -> list[threading.Thread]:
        await call(threads, lambda: None)
        return [thread for thread in threading.enumerate() if thread not in before]

    ours = [thread for thread in run(body) if thread.name.startswith("fairlane-handler")]
    assert ours
    for thread in ours:
        thread.join(60)
        assert not thread.is_alive()


class Meeting(Call):
    """A call that meets others, all of them at once."""

    def __init__(self, place: threading.Barrier, through: Callable[[], object]) -> None:
        super().__init__()
        self._place, self._through = place, through

    def work(self, hand: Hand) -> None:
        self._place.wait(10)

    def done(self) -> None:
        self._through()


def test_calls_that_wait_for_each_other_all_run_however_they_were_put() -> None:
    async def body(threads: Threads) -> None:
        for together in (20, 3, 20):
            place, through = threading.Barrier(together), threading.Semaphore(0)
            meetings = [Meeting(place, through.release) for _ in range(together)]
            threads.put(meetings[:10])
            for meeting in meetings[10:]:
                threads.put((meeting,))
            for _ in meetings:
                assert await asyncio.to_thread(through.acquire, timeout=10)
        assert threads.running == []
        # One that is not done yet when the next ones come is none that they can have.
        assert threads._count <= 40

    run(body)


@pytest.mark.parametrize("sits_in_c", [False, True])
def test_an_interruption_is_over_for_the_interpreter_when_it_has_come_or_is_given_up(sits_in_c: bool) -> None:
    """In a process of its own: before Python 3.13 a debugger or a coverage tool hung for ever on the first call."""
    subprocess.run([sys.executable, "-c", TRACED, str(int(sits_in_c))], check=True, timeout=200)


TRACED = """
import asyncio, contextvars, sys, threading, time
from fairlane.consumer import threads as on_threads

on_threads.INTERRUPT_PATIENCE_S = 0.1


begun = threading.Event()


def turn():
    begun.set()
    while True:
        time.sleep(0.001)


def sit():
    begun.set()
    time.sleep(60)


async def main():
    threads = on_threads.Threads()
    for _ in range(3):
        call = asyncio.create_task(
            threads.run(sit if sys.argv[1] == "1" else turn, contextvars.copy_context(), lambda: None)
        )
        assert await asyncio.to_thread(begun.wait, 10)
        begun.clear()
        call.cancel()
        await asyncio.wait({call}, timeout=10)
        assert call.done()


asyncio.run(main())
traced = []
sys.settrace(lambda *event: traced.append(event))
(lambda: None)()
sys.settrace(None)
assert traced
"""
