"""What a terminal may do to a job that runs in it: Ctrl-C ends it in good order, Ctrl-Z pauses it.

Invariant: both act between two transactions; a second Ctrl-C ends the process at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fairlane.cli.progress_line import ProgressLine
from fairlane.monitor.job_control import JobControl

STOPPED: Final = 130
"""Exit code of a command whose job was stopped and can be resumed."""


@contextmanager
def job_signals(as_json: bool, done: str = "replayed") -> Iterator[tuple[JobControl, ProgressLine]]:
    """A control that Ctrl-C stops and Ctrl-Z pauses, and what shows the progress on a terminal."""
    progress = ProgressLine(done, shown=not as_json)

    def sleep_until_continued() -> None:
        progress.say("Paused: `fg` (or kill -CONT) goes on.")
        os.kill(os.getpid(), signal.SIGSTOP)
        control.resume()

    control = JobControl(sleep_until_continued)

    def stop(*_: object) -> None:
        if control.stopped:
            os._exit(128 + signal.SIGINT)
        control.stop()

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, stop),
        signal.SIGTERM: signal.signal(signal.SIGTERM, stop),
        signal.SIGTSTP: signal.signal(signal.SIGTSTP, lambda *_: control.pause()),
    }
    try:
        yield control, progress
    finally:
        progress.end()
        for number, handler in before.items():
            signal.signal(number, handler)
