"""Handlers for child processes, which import them from here: each does one thing that a handler may do."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from opentelemetry import trace

from fairlane.consumer.context import context
from fairlane.consumer.signals import Reject, RetryLater
from fairlane.topics.task import Task

kept: list[bytes] = []


class Unpicklable(OSError):
    """Cannot be pickled, and cannot be made from its text either."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} is not {second}")
        self.function = lambda: first

    def __reduce__(self) -> Any:
        raise TypeError("never")


def add(a: int, b: int = 1) -> int:
    return a + b


async def add_async(a: int, b: int = 1) -> int:
    await asyncio.sleep(0)
    return a + b


def pid() -> int:
    return os.getpid()


def fail() -> None:
    raise Unpicklable(1, 2)


def leave() -> None:
    sys.exit(3)


async def leave_async() -> None:
    sys.exit(3)


def exit_at_once() -> None:
    os._exit(7)


def segfault() -> None:
    ctypes.string_at(0)


def spin(started: str) -> None:
    Path(started).touch()
    while True:
        pass


def spin_with_a_child(started: str) -> None:
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        Path(started).write_text(str(sleeper.pid))
        while True:
            pass


def hold_the_interpreter() -> None:
    """One call into C that holds the GIL: nothing in this process can end it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    ctypes.PyDLL(None).sleep(600)


def be_asked(started: str) -> str:
    Path(started).touch()
    while not context().cancelled:
        time.sleep(0.005)
    return "partial"


async def be_cancelled(started: str) -> str:
    Path(started).touch()  # noqa: ASYNC240
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        return "partial"
    return "never"


def use_memory(mib: int) -> None:
    for _ in range(mib):
        kept.append(os.urandom(1) * (1 << 20))
        time.sleep(0.002)


def send() -> None:
    found = context()
    found.emit("audit-log", {"n": 1}, key="k", headers=[("h", b"v")])
    found.enqueue(Task(id="sent-1", type="other", payload=b"[1]", priority=2))
    found.emit("audit-log", None, key="k")


async def know() -> list[Any]:
    found = context()
    span = trace.get_current_span().get_span_context()
    return [found.task.id, found.attempt, found.deadline is not None, found.cancelled, f"{span.trace_id:032x}"]


def say(text: str) -> None:
    context().log.warning("by the context: %s", text, extra={"n": 1})
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("shop.mail").exception("by another logger")


def ask_later() -> None:
    raise RetryLater(7.5, "the bank is closed")


def reject() -> None:
    raise Reject("no such order")


def return_nothing_sayable() -> Any:
    return object()


def replaced() -> None: ...


the_first = replaced


def replaced() -> None: ...  # type: ignore[no-redef]
