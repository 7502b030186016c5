"""A call that may never return, with a deadline.

Invariant: whoever calls is answered in time. A call that is not back by its deadline is left behind together with its
thread, and with what it was made on: nobody may touch that again.

librdkafka's send_offsets_to_transaction has been seen to ignore its timeout for ever after a broker was restarted
(confluentinc/librdkafka#5456).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class CallLost(Exception):
    """The call is not back by its deadline, and may never be."""


class _Request:
    __slots__ = ("done", "error", "method")

    def __init__(self, method: Callable[[], Any]) -> None:
        self.method = method
        self.done = threading.Event()
        self.error: BaseException | None = None


class BoundedCaller:
    """Makes calls, one after the other, on a thread of its own.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._requests: SimpleQueue[_Request | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def call(self, method: Callable[[], Any], timeout_s: float) -> None:
        """Make a call and wait for its end.

        Args:
            method: what to call.
            timeout_s: how long it may take, seconds.

        Raises:
            CallLost: it is not back in time. Make no other call here.
            BaseException: what it raised.
        """
        request = _Request(method)
        self._requests.put(request)
        if not request.done.wait(timeout_s):
            raise CallLost(f"not back after {timeout_s:g} s")
        if request.error is not None:
            raise request.error

    def close(self) -> None:
        """Let the thread end when it has made what it was given."""
        self._requests.put(None)

    def _serve(self) -> None:
        while True:
            request = self._requests.get()
            if request is None:
                return
            try:
                request.method()
            except BaseException as error:  # noqa: BLE001 - it is raised where the call was asked for
                request.error = error
            request.done.set()
            # Not kept while waiting for the next: what it was called on may be given up meanwhile.
            del request
