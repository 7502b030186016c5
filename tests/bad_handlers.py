"""What a handler may do that it should not: each by its name, for a worker's loop, its threads, and child processes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

from fairlane.consumer.context import Context, context

FOREVER: Final = threading.Event()
"""Set when a module of tests is over, so that what was left behind ends with it."""
left: list[Context] = []
kept: list[bytes] = []


class OddError(BaseException):
    """No Exception at all."""


class UnpicklableError(OSError):
    """Cannot be pickled, and cannot be made from its text either."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} is not {second}")
        self.function = lambda: first

    def __reduce__(self) -> Any:
        raise TypeError("never")


class SilentError(Exception):
    """Raises when it is asked what it is."""

    def __str__(self) -> str:
        raise ZeroDivisionError("str")

    __repr__ = __str__


class LongError(Exception):
    """Megabytes of text, by a chain of a thousand causes."""


def exits() -> NoReturn:
    sys.exit(3)


def interrupts() -> NoReturn:
    raise KeyboardInterrupt


def is_odd() -> NoReturn:
    raise OddError("odd")


def is_unpicklable() -> NoReturn:
    raise UnpicklableError(1, 2)


def is_silent() -> NoReturn:
    raise SilentError


def is_long() -> NoReturn:
    error = LongError("x" * 3_000_000)
    for number in range(1_000):
        cause, error = error, LongError(f"{number}" * 500)
        error.__cause__ = cause
    raise LongError("y\n" * 2_000_000) from error


def recurses() -> Any:
    return recurses()


def returns_an_object() -> Any:
    return object()


def returns_itself() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


def returns_half_a_character() -> Any:
    return "\ud800"


def returns_too_much() -> Any:
    return "x" * 2_000_000


def kills() -> NoReturn:
    os._exit(7)


def crashes() -> Any:
    return ctypes.string_at(0)


def spins() -> NoReturn:
    while True:
        pass


def hoards() -> NoReturn:
    """8 GiB, a little at a time: whoever looks has the time to see it."""
    for _ in range(8 << 10):
        kept.append(os.urandom(1) * (1 << 20))
        time.sleep(0.002)
    raise AssertionError("nobody minded")


def swallows_interruptions() -> NoReturn:
    while True:
        with contextlib.suppress(BaseException):
            while not FOREVER.is_set():
                time.sleep(0.01)
        if FOREVER.is_set():
            sys.exit()


def leaves_a_thread() -> Any:
    found = context()

    def stay() -> None:
        FOREVER.wait()
        found.emit("too-late", 1)

    threading.Thread(target=stay, name="left-behind", daemon=False).start()
    return "left"


BAD: Final[dict[str, Callable[[], Any]]] = {
    function.__name__: function
    for function in (
        exits, interrupts, is_odd, is_unpicklable, is_silent, is_long, recurses, returns_an_object,
        returns_itself, returns_half_a_character, returns_too_much, kills, crashes, spins, hoards,
        swallows_interruptions, leaves_a_thread,
    )
}  # fmt: skip


async def on_the_loop(what: str) -> Any:
    await asyncio.sleep(0)
    return BAD[what]()


def on_a_thread(what: str) -> Any:
    return BAD[what]()


def in_a_process(what: str) -> Any:
    return BAD[what]()


async def good(number: int) -> int:
    return number


async def swallows_its_cancellation() -> NoReturn:
    while not FOREVER.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)
    raise asyncio.CancelledError


async def makes_the_best_of_its_cancellation() -> str:
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        return "what there was"
    return "never"


async def leaves_a_task(how: str) -> str:
    async def exits_later() -> None:
        await asyncio.sleep(0.05)
        sys.exit(3)

    task = asyncio.get_running_loop().create_task(exits_later() if how == "exits" else swallows_its_cancellation())
    left_tasks.append(task)
    return "left"


left_tasks: list[asyncio.Task[Any]] = []


async def blocks_the_loop(seconds: float) -> str:
    time.sleep(seconds)  # noqa: ASYNC251
    return "at last"
