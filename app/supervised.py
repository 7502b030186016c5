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
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from fairlane.topics.errors import UsageError
from fairlane.topics.events import Pool, encode

if TYPE_CHECKING:
    from fairlane.consumer.worker import Worker

_logger = logging.getLogger("fairlane.supervised")

WORKING: Final = b"w"
"""What a worker says once, when it reads and runs tasks; every second after that its newest heartbeat. Each is a line,
as is the pool that the supervisor tells of."""
TELL_S: Final = 1.0
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
        self._worker: Worker | None = None
        threading.Thread(target=self._watch, name="fairlane-supervised", daemon=True).start()

    def attach(self, worker: Worker) -> None:
        """From now on there is a worker to tell of, and to end in good order."""
        self._worker = worker
        threading.Thread(target=self._tell, args=(worker,), name="fairlane-supervised-tell", daemon=True).start()

    def _tell(self, worker: Worker) -> None:
        worker.ready.wait()
        # A supervisor that does not listen holds up this thread and nobody else.
        with contextlib.suppress(OSError):
            self._socket.sendall(WORKING + b"\n")
            while True:
                if worker.beat is not None:
                    self._socket.sendall(encode(replace(worker.beat, running_tasks=(), types={})) + b"\n")
                threading.Event().wait(TELL_S)

    def _watch(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as said:
            for line in said:
                if self._worker is not None:
                    with contextlib.suppress(msgspec.DecodeError):
                        self._worker.pool = msgspec.json.decode(line, type=Pool)
        if self._worker is None:
            os._exit(1)
        _logger.warning("the supervisor is gone: ending")
        self._worker.stop(ORPHAN_GRACE_S)
        threading.Event().wait(ORPHAN_END_S)
        _logger.error("ending at once; what runs will be run again")
        os._exit(1)
