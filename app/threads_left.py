"""The end of a worker process, whatever threads its handlers left behind.

Invariant: when a worker has ended, its process ends within seconds and with the worker's exit code. Python waits for
every thread that is no daemon, and for those of every executor, before it ends.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Final

from fairlane.topics import tracing_setup

END_PATIENCE_S: Final = 2.0
_logger = logging.getLogger("fairlane.worker")


def leave_threads_behind(code: int) -> None:
    """End this process with a code, in a few seconds if it does not end by itself; the worker has ended."""
    threading.Thread(target=_end, args=(code,), name="fairlane-end", daemon=True).start()


def _end(code: int) -> None:
    threading.Event().wait(END_PATIENCE_S)
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread.is_alive()]
    names = ", ".join(name for name in left if name != "MainThread")
    _logger.warning("ending without the threads that handlers left behind: %s", names or "those of executors")
    tracing_setup.shutdown()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
