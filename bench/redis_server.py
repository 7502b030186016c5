"""A Redis for one measurement: on a free port of loopback, in memory only, gone with the `with` block."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PROGRAM: Final = "redis-server"
READY_S: Final = 10.0


def missing() -> str:
    """Why there can be none; empty if there can."""
    return "" if shutil.which(PROGRAM) else f"{PROGRAM} is not installed: `make bench` installs it"


@contextmanager
def redis_server() -> Iterator[str]:
    """Gives its URL."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        told = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "no", "loglevel": "warning"}
        command = [PROGRAM, *(part for name, value in told.items() for part in (f"--{name}", str(value)))]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                _wait(port)
                yield f"redis://127.0.0.1:{port}/0"
            finally:
                server.kill()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def _wait(port: int) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
