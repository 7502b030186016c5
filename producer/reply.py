"""A reply that is on its way to this process.

Invariant: whoever waits for it and gives up does not take it from the others. When its handle is gone nobody can ask
for it any more, and the follower forgets it.
"""

from __future__ import annotations

import os
from concurrent.futures import Future

from fairlane.producer.watch import Answer
from fairlane.topics.errors import FairlaneError


class Reply:
    """What `expected` gets, for any number of waiters."""

    __slots__ = ("_expected", "_pid")

    def __init__(self, expected: Future[Answer]) -> None:
        self._expected = expected
        self._pid = os.getpid()

    @property
    def can_come(self) -> bool:
        """Whether waiting makes sense: not in a forked child, whose parent gets it, nor when reading it failed."""
        if self._pid != os.getpid():
            return False
        return not (self._expected.done() and isinstance(self._expected.result(), FairlaneError))

    def follow(self) -> Future[Answer]:
        """A future of one's own, to be cancelled at will."""
        own: Future[Answer] = Future()

        def tell(expected: Future[Answer]) -> None:
            if not expected.cancelled() and own.set_running_or_notify_cancel():
                own.set_result(expected.result())

        self._expected.add_done_callback(tell)
        return own

    def __del__(self) -> None:
        if self._pid == os.getpid():
            self._expected.cancel()
