"""Finds what a program has left running: processes that inherited a mark of its environment, whoever their parent is.

Invariant: only processes that the marked program started have the mark, so nobody else's are ever named.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from waiting import WAIT_S, wait_until

_NAME = "LEFT_BEHIND_MARK"


class Mark:
    """A mark for one program.

    Attributes:
        environ: the environment to start it with.
    """

    def __init__(self) -> None:
        self._text = f"{_NAME}={uuid.uuid4().hex}"
        self.environ = {**os.environ, _NAME: self._text.partition("=")[2]}

    def processes(self) -> dict[int, str]:
        """Command lines of those that run now, by pid."""
        found = {}
        for directory in Path("/proc").iterdir():
            if not directory.name.isdecimal():
                continue
            try:
                environ = (directory / "environ").read_bytes()
                command = (directory / "cmdline").read_bytes()
            except OSError:
                continue
            if self._text.encode() in environ.split(b"\0"):
                found[int(directory.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def wait_until_none(self, timeout_s: float = WAIT_S) -> None:
        """Returns once none is left; fails with their command lines."""
        wait_until(lambda: not self.processes(), f"none of {list(self.processes().values())} to run", timeout_s)
