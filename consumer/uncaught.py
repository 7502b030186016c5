"""What is raised where nobody catches it, in threads that handlers left and while objects end: a record of the log.

Invariant: nothing of it goes to stderr past the log, which knows its form, its level and what it must not show.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sys import UnraisableHookArgs
    from threading import ExceptHookArgs

_logger: Final = logging.getLogger("fairlane.worker")


def log_uncaught() -> None:
    """Log it from now on, in this process."""
    threading.excepthook = _of_thread
    sys.unraisablehook = _of_object


def _of_thread(raised: ExceptHookArgs) -> None:
    if raised.exc_type is SystemExit:
        return  # how a thread ends itself, by Python's own hook too
    name = raised.thread.name if raised.thread is not None else "of nobody's"
    error = raised.exc_value or raised.exc_type()
    _logger.error("thread %s raised %s", name, raised.exc_type.__name__, exc_info=error)


def _of_object(raised: UnraisableHookArgs) -> None:
    error = raised.exc_value or raised.exc_type()
    _logger.error("what nobody can catch was raised: %s", raised.exc_type.__name__, exc_info=error)
