"""The live view: a screen that is drawn again and again until somebody quits.

Invariant: the terminal is left as it was found, however it ends. Kafka is asked in a thread of its own, so that keys
and the size of the terminal are answered to while it does not answer.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from types import FrameType
from typing import Final, Protocol

from rich.console import Console
from rich.control import Control
from rich.live import Live

from fairlane.monitor.screen import screen
from fairlane.monitor.show import age
from fairlane.monitor.stats import Stats
from fairlane.topics.clock import now_ms
from fairlane.topics.errors import FairlaneError

_TICK_S: Final = 0.25
"""How soon a key or a new size of the terminal is answered to."""
_QUIT: Final = b"qQ\x03\x04"
_JOIN_S: Final = 1.0
_PATIENCE_MS: Final = 2_000
"""How much later than it should be a snapshot may come before its age is worth a line."""


@dataclass(frozen=True)
class Look:
    """The newest snapshot, and what has gone wrong since; "" is nothing."""

    stats: Stats
    problem: str = ""


class Source(Protocol):
    """Gives snapshots: Kafka's own, or those of a monitor elsewhere."""

    def collect(self, now_ms: int, /) -> Stats:
        """The queue now."""
        ...


class Collector:
    """Takes a snapshot every interval, in a thread of its own; the newest is `look`."""

    def __init__(self, source: Source, first: Stats, interval_s: float) -> None:
        self.look = Look(first)
        self._source = source
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fairlane-monitor", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> bool:
        """End; whether it did within a second (a Kafka that is gone may hold it longer)."""
        self._ended.set()
        self._thread.join(_JOIN_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                self.look = Look(self._source.collect(now_ms()))
            except FairlaneError as error:
                self.look = Look(self.look.stats, str(error))


def watch(source: Source, console: Console, interval_s: float) -> None:
    """Show the queue until q or Ctrl-C is pressed or a SIGTERM comes.

    Args:
        source: of the queue; closed by the caller.
        console: a terminal.
        interval_s: seconds between two snapshots.

    Raises:
        FairlaneError: the first snapshot could not be taken. Later problems are shown and outlived.
    """
    collector = Collector(source, source.collect(now_ms()), interval_s)
    collector.start()
    try:
        with _terminated(), _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
            quitting = False
            while not quitting:
                look = collector.look
                live.update(
                    screen(
                        look.stats,
                        width=console.width,
                        height=console.height,
                        clock=_clock(look.stats, interval_s),
                        note=note(look, now_ms(), interval_s),
                    ),
                    refresh=True,
                )
                quitting = pressed(_TICK_S)
            # Terminals that grew meanwhile keep a part of this screen on the other one: leave nothing to keep.
            console.control(Control.clear())
    except KeyboardInterrupt:
        pass
    finally:
        collector.stop()


def note(look: Look, now_ms: int, interval_s: float) -> str:
    """What must be seen beside the numbers: that they are old, and why as far as it is known; "" if they are not."""
    old_ms = now_ms - look.stats.at_ms
    if not look.problem and old_ms < interval_s * 1_000 + _PATIENCE_MS:
        return ""
    why = f": {look.problem}" if look.problem else ", Kafka has not answered since"
    return f"These numbers are {age(old_ms)} old{why}"


def _clock(stats: Stats, interval_s: float) -> str:
    at = datetime.fromtimestamp(stats.at_ms / 1000).astimezone()
    return f"{at:%H:%M:%S}, every {interval_s:g}s, q quits"


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """A SIGTERM ends the view as Ctrl-C does: otherwise it would leave the terminal on the other screen."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """A function that waits so many seconds for a key and says whether it was one that quits."""
    if not sys.stdin.isatty():
        never = threading.Event()
        yield lambda wait_s: never.wait(wait_s)
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def pressed(wait_s: float) -> bool:
        ready, _, _ = select.select([descriptor], [], [], wait_s)
        if not ready:
            return False
        keys = os.read(descriptor, 64)
        # Nothing to read where there is something: the terminal is gone.
        return not keys or any(key in _QUIT for key in keys)

    try:
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
