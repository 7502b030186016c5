"""The event loop of a worker: it turns until the worker has ended, whatever handlers leave on it.

Invariant: a task that a handler left on the loop ends neither the worker, by raising what asyncio lets out of a loop
(SystemExit, KeyboardInterrupt), nor holds up its end, by not letting itself be cancelled. What it raises is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

CLEAR_PATIENCE_S: Final = 1.0
"""How long what handlers left behind may take to end once the worker has."""
_logger = logging.getLogger("fairlane.worker")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a worker on a loop of its own; as `asyncio.run`, but for what others leave on the loop.

    Args:
        main: runs the worker.

    Returns:
        What `main` returned.

    Raises:
        BaseException: what `main` raised.
    """
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_left_alone)
    try:
        asyncio.set_event_loop(loop)
        return _until_done(loop, loop.create_task(main))
    finally:
        try:
            _clear(loop)
        finally:
            asyncio.set_event_loop(None)
            # Without a wait for the default executor: a thread that a handler left there may never end.
            loop.close()


def _until_done(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                raise
            _logger.exception("a task that a handler left on the event loop raised %s: ignored", type(error).__name__)


def _left_alone(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody awaited has raised: told without what asyncio adds, which is what it was called with."""
    error = context.get("exception")
    if error is None:
        loop.default_exception_handler(context)
    else:
        _logger.error("what was left on the event loop raised %s", type(error).__name__, exc_info=error)


def _clear(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left, and wait for it, but not for long."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        _, stuck = _until_done(loop, loop.create_task(asyncio.wait(left, timeout=CLEAR_PATIENCE_S)))
        if stuck:
            names = ", ".join(sorted(_name_of(task) for task in stuck)[:5])
            _logger.warning(
                "ending without %d asyncio tasks that do not let themselves be cancelled: %s", len(stuck), names
            )
    _until_done(loop, loop.create_task(loop.shutdown_asyncgens()))


def _name_of(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", task.get_name())
