"""Passes on what the worker process of a slot writes, each line with the slot's name, and remembers the end of it.

Invariant: a line that was written whole is passed on whole, and a line of JSON stays one. Nobody who reads too slowly,
or no more, blocks more than the writing; the worker's own pipe is always read.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from typing import BinaryIO, Final

from fairlane.logs import LogFormat

LINES_KEPT: Final = 15
LINE_MAX: Final = 64 << 10


class SlotLog:
    """What one slot writes.

    Args:
        name: of the slot.
        out: where it goes.
        lock: held while a line is written; shared by all slots.
        log_format: of the worker's own lines: `text` gets the name in front, `json` as the member `slot`.
    """

    def __init__(self, name: str, out: BinaryIO, lock: threading.Lock, log_format: LogFormat) -> None:
        self._in_front = f"{name} | ".encode()
        self._member = b'{"slot":' + json.dumps(name).encode() + b","
        self._out = out
        self._lock = lock
        self._is_json = log_format == "json"
        self._last: deque[bytes] = deque(maxlen=LINES_KEPT)

    def follow(self, source: BinaryIO) -> None:
        """Pass on all that comes until its end."""
        with source:
            while line := source.readline(LINE_MAX):
                self.add(line.rstrip(b"\r\n"))

    def add(self, line: bytes) -> None:
        """Pass on one line."""
        self._last.append(line)
        # Whoever read it is gone or full: the worker goes on.
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._out.write(self.marked(line) + b"\n")
            self._out.flush()

    def marked(self, line: bytes) -> bytes:
        """The line with the slot's name."""
        if self._is_json and line.startswith(b'{"') and line.endswith(b"}"):
            return self._member + line[1:]
        return self._in_front + line

    @property
    def end(self) -> str:
        """The last lines."""
        return "\n".join(line.decode("utf-8", "replace") for line in self._last)
