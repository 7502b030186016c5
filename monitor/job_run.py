"""Runs a job on many things: in batches, at a pace, and with a look between two of them at whether it is to go on.

Invariant: a batch that was begun is finished; while a job waits, is paused or ends, nothing of it is under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import TypeVar

import msgspec

from fairlane.monitor.job_control import JobControl
from fairlane.monitor.pace import Pace

_Thing = TypeVar("_Thing")


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is.

    Attributes:
        done: how many things it has sent since it was started or resumed.
        total: how many it will have sent at its end.
        elapsed_s: since when, seconds.
    """

    done: int
    total: int
    elapsed_s: float


class JobRun:
    """One run of a job.

    Args:
        total: how many things there are to do.
        per_s: how many a second; None is as many as go.
        control: pauses and stops it.
        on_progress: told after every batch, and first before any.

    Attributes:
        done: how many things are done.
        ended: whether there is nothing left; False where it was stopped before.
    """

    def __init__(
        self, total: int, per_s: float | None, control: JobControl | None, on_progress: Callable[[Progress], None]
    ) -> None:
        self.total = total
        self.done = 0
        self.ended = True
        self._pace = Pace(per_s)
        self._control = control or JobControl()
        self._on_progress = on_progress
        self._started_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """How long it runs, seconds."""
        return time.monotonic() - self._started_s

    def batches(self, things: Iterator[_Thing]) -> Generator[list[_Thing]]:
        """The batches, each when it may go; it is done when the next one is asked for."""
        self._tell()
        while batch := list(islice(things, self._pace.batch)):
            if not self._control.go_on_after(self._pace.wait_s(time.monotonic())):
                self.ended = False
                return
            self._pace.went(len(batch), time.monotonic())
            yield batch
            self.done += len(batch)
            self._tell()

    def _tell(self) -> None:
        self._on_progress(Progress(done=self.done, total=self.total, elapsed_s=self.elapsed_s))
