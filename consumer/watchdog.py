"""The watchdog: a thread that asks the event loop for a sign of life, and names what holds it up.

Invariant: it only looks. A blocked loop is told once, with the handler and its stack, and once more when it is over;
heartbeats, reading and settling go on meanwhile on their own threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
import traceback
from types import FrameType
from typing import Any, Final

from fairlane.consumer.delivery import Delivery
from fairlane.consumer.executor import Executor
from fairlane.consumer.stall import Blocked, Over, Stall, StoodStill

_logger = logging.getLogger("fairlane.watchdog")

FRAMES_MAX: Final = 30


class Watchdog:
    """Watches one event loop.

    Args:
        blocked_s: from when on a loop that does not answer is blocked, seconds.
    """

    def __init__(self, blocked_s: float) -> None:
        self._stall = Stall(blocked_s)
        self._answered_s: float | None = None
        self._lag_s = 0.0
        self.blocked = 0
        """How often the loop was blocked."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._culprit = "something"
        self._about: dict[str, Any] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fairlane-watchdog", daemon=True)

    @property
    def asked_s(self) -> float | None:
        """When the loop was asked for a sign that it still owes, on the monotonic clock; None if it owes none."""
        return self._stall.asked_s if self._answered_s is None else None

    @property
    def lag_s(self) -> float:
        """How long the loop last took to answer, or has been taking until now, seconds."""
        asked_s = self.asked_s
        return self._lag_s if asked_s is None else max(self._lag_s, time.monotonic() - asked_s)

    def start(self) -> None:
        """Watch the running loop, which must be this thread's."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._thread.start()

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._stopping.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        while not self._stopping.wait(self._stall.period_s):
            try:
                self._tell(self._stall.look(self._answered_s, time.monotonic()))
                if self._stall.asked_s is None:
                    self._ask()
            except Exception:
                _logger.exception("could not look after the event loop")

    def _ask(self) -> None:
        assert self._loop is not None
        self._answered_s = None
        self._stall.asked(time.monotonic())
        with contextlib.suppress(RuntimeError):
            # A loop that is closed has nothing to answer, and whoever closed it ends this thread as well.
            self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        asked_s, now_s = self._stall.asked_s, time.monotonic()
        self._lag_s = now_s - asked_s if asked_s is not None else 0.0
        self._answered_s = now_s

    def _tell(self, event: Blocked | Over | StoodStill | None) -> None:
        match event:
            case Blocked(for_s):
                self.blocked += 1
                stack = self._find()
                message = (
                    "the event loop has been blocked for %.1f s by %s: no other task starts or goes on. Make it a "
                    "`def` handler, or await asyncio.to_thread(…) for what blocks"
                )
                self._log(logging.ERROR, message, for_s, stack)
            case Over(for_s):
                self._log(logging.ERROR, "the event loop goes on: it was blocked for %.1f s by %s", for_s, None)
            case StoodStill(for_s):
                stack = self._find()
                message = (
                    "this process stood still for %.1f s: it was stopped, had no CPU, or something kept the "
                    "interpreter's lock. Now its event loop runs %s"
                )
                self._log(logging.WARNING, message, for_s, stack)

    def _log(self, level: int, message: str, for_s: float, stack: str | None) -> None:
        if _logger.isEnabledFor(level):
            # By hand, since a logger takes only the stack of the thread that calls it.
            said = (for_s, self._culprit)
            record = _logger.makeRecord(
                _logger.name, level, __file__, 0, message, said, None, extra=self._about, sinfo=stack
            )
            _logger.handle(record)

    def _find(self) -> str | None:
        """Find out what the loop's thread does; returns its stack, from the attempt on if it is in one."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way to another thread
        delivery, depth = attempt_in(frame)
        if delivery is not None:
            task = delivery.task
            self._culprit = f"the handler of {task.type}"
            self._about = {"task_id": task.id, "task_type": task.type, "attempt": task.attempt}
        else:
            current = asyncio.current_task(self._loop) if self._loop is not None else None
            self._culprit = f"the asyncio task {current.get_name()!r}" if current is not None else "a callback"
            self._about = {}
        if frame is None:
            return None
        lines = traceback.format_list(traceback.extract_stack(frame)[-min(max(depth, 1), FRAMES_MAX) :])
        return "The event loop is at (most recent call last):\n" + "".join(lines).rstrip()


def attempt_in(frame: FrameType | None) -> tuple[Delivery | None, int]:
    """The task whose attempt a stack is in the middle of, or None, and how many frames are its own."""
    depth = 0
    while frame is not None:
        if frame.f_code is Executor._run.__code__:  # noqa: SLF001 - its frame is under every attempt
            delivery: Delivery = frame.f_locals["delivery"]
            return delivery, depth
        if frame.f_code is Executor._run_batch.__code__:  # noqa: SLF001
            return frame.f_locals["batch"][0], depth
        frame = frame.f_back
        depth += 1
    return None, depth
