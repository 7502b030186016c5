"""One course of action for two worlds: threads that block and coroutines that await.

Invariant: a course is a generator that yields what it waits for and does no waiting itself. Whoever drives it waits, in
the way of its world; so that `enqueue` and `aenqueue` cannot drift apart. What goes wrong in a wait, a cancellation
too, is raised where the course waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Until:
    """Wait for `future`, up to `timeout_s` seconds. The answer is whether it is done; if it is not, it is cancelled."""

    future: Future[Any]
    timeout_s: float


@dataclass(frozen=True)
class Blocking:
    """Call something that blocks. There is no answer; what it raises is raised in the course, which ends with it."""

    call: Callable[[], object]


@dataclass(frozen=True)
class Turn:
    """Let others have their turn: an event loop has more to do than a long course."""


Step = Until | Blocking | Turn
Course = Generator[Step, bool, T]


def run(course: Course[T]) -> T:
    """Drive a course on this thread."""
    try:
        step = next(course)
        while True:
            try:
                answer = _block(step)
            except BaseException as error:  # noqa: BLE001 - the course lets it through, and so does this
                step = course.throw(error)
            else:
                step = course.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        course.close()


def _block(step: Step) -> bool:
    if isinstance(step, Blocking):
        step.call()
    elif isinstance(step, Until):
        try:
            step.future.result(step.timeout_s)
        except TimeoutError:
            return not step.future.cancel()
    return True


async def arun(course: Course[T]) -> T:
    """Drive a course in this event loop, whichever it is."""
    try:
        step = next(course)
        while True:
            try:
                answer = await _await(step)
            except BaseException as error:  # noqa: BLE001 - the course lets it through, and so does this
                step = course.throw(error)
            else:
                step = course.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        course.close()


async def _await(step: Step) -> bool:
    if isinstance(step, Turn):
        await asyncio.sleep(0)
    elif isinstance(step, Blocking):
        await asyncio.to_thread(step.call)
    else:
        here = asyncio.wrap_future(step.future)
        try:
            await asyncio.wait({here}, timeout=step.timeout_s)
        finally:
            # Also when this coroutine is cancelled: a loop that is gone cannot be told of an answer.
            here.cancel()
        return not step.future.cancelled()
    return True
