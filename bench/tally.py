"""What a no-op handler leaves behind: how often it ran, when first and when last, across threads and processes.

It does some work too where it is told to: so many ms of CPU of its thread.

Invariant: each thread of each process has a file of its own, so that nothing is shared and nothing is locked; a call
costs a fifth of a microsecond. It is the same for every peer, and needs nothing but Python's library, so that it runs
in the peers' own environments.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = "BENCH_TALLY"
"""The environment variable that names the folder."""

CPU_MS: Final = "BENCH_CPU_MS"
"""The environment variable that says how much CPU a run takes, ms; nothing by default."""

_WORDS: Final = 3


class Count(NamedTuple):
    """Of all handlers: how many runs, and the time from the first to the last, seconds."""

    runs: int
    took_s: float


class Tally:
    """Counts the runs of handlers of this process."""

    def __init__(self) -> None:
        self._of_thread = threading.local()
        self._cpu_ns = int(1e6 * float(os.environ.get(CPU_MS, "0")))

    def mark(self) -> None:
        """A handler runs."""
        try:
            words = self._of_thread.words
        except AttributeError:
            words = self._of_thread.words = _file()
            words[1] = time.monotonic_ns()
        if self._cpu_ns:
            ends_ns = time.thread_time_ns() + self._cpu_ns
            while time.thread_time_ns() < ends_ns:
                pass
        words[0] += 1
        words[2] = time.monotonic_ns()


def _file() -> memoryview[int]:
    path = Path(os.environ[FOLDER]) / f"{os.getpid()}-{threading.get_native_id()}"
    path.write_bytes(bytes(8 * _WORDS))
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")


def read(folder: Path) -> Count:
    """What all of them have counted so far."""
    found = [memoryview(path.read_bytes()).cast("Q") for path in folder.iterdir()]
    begun = [words for words in found if len(words) == _WORDS and words[0]]
    if not begun:
        return Count(0, 0.0)
    took_ns = max(words[2] for words in begun) - min(words[1] for words in begun)
    return Count(sum(words[0] for words in begun), took_ns / 1e9)


def wait(folder: Path, runs: int, timeout_s: float) -> Count:
    """Until they have run so often.

    Raises:
        TimeoutError: they have not, in that time.
    """
    deadline = time.monotonic() + timeout_s
    while (count := read(folder)).runs < runs:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count.runs} of {runs} tasks ran within {timeout_s} s")
        time.sleep(0.02)
    return count
