"""How far a job is, on the terminal that runs it.

Invariant: it goes to stderr, and never into what is piped on.
"""

from __future__ import annotations

import sys
import time
from typing import Final

import typer

from fairlane.monitor.job_run import Progress
from fairlane.monitor.show import duration

_EVERY_S: Final = 5.0


class ProgressLine:
    """One line that is written over on a terminal; elsewhere a line now and then.

    Args:
        done: what was done to so many, such as `replayed`.
        shown: whether there is one at all.
    """

    def __init__(self, done: str, *, shown: bool) -> None:
        self._done = done
        self._shown = shown
        self._terminal = sys.stderr.isatty()
        self._told_s = time.monotonic()
        self._open = False

    def __call__(self, progress: Progress) -> None:
        """Show how far the job is."""
        due = self._terminal or time.monotonic() - self._told_s >= _EVERY_S
        if not self._shown or not due or progress.total < 2:
            return
        self._told_s = time.monotonic()
        per_s = progress.done / progress.elapsed_s if progress.elapsed_s else 0.0
        left = duration((progress.total - progress.done) / per_s * 1_000) if per_s else "…"
        text = f"{progress.done:,} of {progress.total:,} {self._done}, {per_s:,.0f}/s, {left} left"
        if self._terminal:
            typer.echo(f"\r\x1b[K{text}", err=True, nl=False)
            self._open = True
        else:
            typer.echo(text, err=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        self.end()
        typer.echo(text, err=True)

    def end(self) -> None:
        """End the line that is written over."""
        if self._open:
            typer.echo(err=True)
            self._open = False
