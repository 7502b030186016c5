"""A worker's end of the line to the supervisor that started it.

Invariant: a worker does not outlive its supervisor by more than seconds, however that went and whatever the worker is
at. The line is a socket whose other end nobody else holds: it ends when the supervisor ends. Asking for the parent's
pid would miss a parent that ends before the first question, and PR_SET_PDEATHSIG fires when the *thread* ends that
started the worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Final

from fairlane.topics.errors import UsageError

_logger = logging.getLogger("fairlane.supervised")

WORKING: Final = b"w"
"""What a worker says once, when it reads and runs tasks."""
ORPHAN_GRACE_S: Final = 3.0
"""How long running attempts may go on without a supervisor; the rest is handed back."""
ORPHAN_END_S: Final = 15.0
"""After so long without a supervisor a worker ends as if it was killed, which loses nothing either."""


class Line:
    """The line to the supervisor.

    Args:
        descriptor: of the socket that the supervisor left open for this process.

    Raises:
        UsageError: it is none.
    """

    def __init__(self, descriptor: int) -> None:
        try:
            os.set_inheritable(descriptor, False)
            self._socket = socket.socket(fileno=descriptor)
        except OSError as error:
            raise UsageError(f"descriptor {descriptor} is no line to a supervisor", "Say --processes N") from error
        self._stop: Callable[[float], None] | None = None
        threading.Thread(target=self._watch, name="fairlane-supervised", daemon=True).start()

    def attach(self, ready: threading.Event, stop: Callable[[float], None]) -> None:
        """From now on there is something to end in good order.

        Args:
            ready: set when the worker works, of which the supervisor is told.
            stop: ends it, with so many seconds for what runs; any thread.
        """
        self._stop = stop
        threading.Thread(target=self._tell, args=(ready,), name="fairlane-supervised-ready", daemon=True).start()

    def _tell(self, ready: threading.Event) -> None:
        ready.wait()
        with contextlib.suppress(OSError):
            self._socket.send(WORKING)

    def _watch(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.recv(1)
        if self._stop is None:
            os._exit(1)
        _logger.warning("the supervisor is gone: ending")
        self._stop(ORPHAN_GRACE_S)
        threading.Event().wait(ORPHAN_END_S)
        _logger.error("ending at once; what runs will be run again")
        os._exit(1)
