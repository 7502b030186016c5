"""A lock between processes, held by an open file, so that it goes with its holder even on kill -9.

Invariant: the lock file is never deleted, else two holders could lock two files of one name.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlane.kafka.errors import LockBusy

_RETRY_S = 0.05


@contextmanager
def locked(path: Path, timeout_s: float) -> Iterator[None]:
    """Holds the lock `path` for the block; waits for another process at most `timeout_s` seconds.

    Raises:
        LockBusy: it waited in vain.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LockBusy(str(path), timeout_s) from None
                time.sleep(_RETRY_S)
        yield
    finally:
        os.close(descriptor)
