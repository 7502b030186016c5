"""Processes by pid, safely: a pid means a process only together with the moment it started.

Invariant: no signal is sent to a pid whose start mark is not the one that was noted, so a recycled pid is never killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.02
_REAP_S: Final = 10.0


@dataclass(frozen=True)
class ProcessMark:
    """A process for good: its pid and an opaque mark of when it started."""

    pid: int
    started: str


_children: Final[dict[ProcessMark, subprocess.Popen[bytes]]] = {}
"""Children of this process, those that ended too: their exit status is asked for later."""


def mark_of(pid: int) -> ProcessMark | None:
    """The mark of the process that has `pid` now; None if there is none, or only its unreaped remains."""
    started = _start_of(pid)
    return None if started is None else ProcessMark(pid, started)


def _start_of(pid: int) -> str | None:
    return _linux_start(pid) if sys.platform == "linux" else _ps_start(pid)


def _linux_start(pid: int) -> str | None:
    """Boot id and clock ticks since boot: unlike a wall-clock time, no clock adjustment moves it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The command, in parentheses, may hold spaces and parentheses of its own.
    fields = stat.rpartition(")")[2].split()
    state, threads, start_ticks = fields[0], int(fields[17]), fields[19]
    # The first thread of a Java that was killed ends before the others, which still hold files and ports.
    return None if state in "ZX" and threads <= 1 else f"{boot}/{start_ticks}"


def _ps_start(pid: int) -> str | None:
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else " ".join(started.split())


def is_alive(mark: ProcessMark) -> bool:
    """True while that very process runs."""
    return mark_of(mark.pid) == mark


def send(mark: ProcessMark, number: signal.Signals) -> None:
    """Sends a signal to that very process; one that is gone needs none."""
    if is_alive(mark):
        try:
            os.kill(mark.pid, number)
        except ProcessLookupError:
            return


def spawn(argv: Sequence[str], output: Path, *, process_group: int | None, environ: Mapping[str, str]) -> ProcessMark:
    """Starts a process in the background, which needs nobody to wait for it.

    Args:
        argv: program and arguments.
        output: file that takes what it writes to stdout and stderr; emptied first.
        process_group: group to join; None for a session of its own, which outlives the terminal.
        environ: its environment.

    Raises:
        OSError: it could not be started.
    """
    with output.open("wb") as file:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environ,
            process_group=process_group,
            start_new_session=process_group is None,
        )
    # A child that ended already has its remains in the process table until it is polled, so this cannot race.
    started = _start_of(child.pid) or "ended at once"
    mark = ProcessMark(child.pid, started)
    _children[mark] = child
    return mark


def exit_status(mark: ProcessMark) -> int | None:
    """How a child of ours ended: its exit code, or minus the signal; None if it runs, or is none of ours."""
    child = _children.get(mark)
    return None if child is None else child.poll()


def wait_until_left(marks: Collection[ProcessMark], at_most: int, timeout_s: float) -> bool:
    """Waits until at most so many of these processes run; False if more do after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while sum(is_alive(mark) for mark in marks) > at_most:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def wait_until_gone(mark: ProcessMark, timeout_s: float) -> bool:
    """Waits for that very process to end; False if it still runs after `timeout_s` seconds."""
    if not wait_until_left((mark,), 0, timeout_s):
        return False
    # Our own child leaves remains until somebody takes its status.
    if child := _children.get(mark):
        child.wait(_REAP_S)
    return True
