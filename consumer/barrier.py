"""Under which lease a transaction is open: what a partition that leaves waits for.

Invariant: one transaction at a time. Its lease is read and told under one lock: a lease that was read before a newer
one was published is one that `wait_past` waits for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fairlane.consumer.assignment import Lease


class Barrier:
    """Between the settler's thread and the reader's.

    Args:
        newest: gives the newest lease.
    """

    def __init__(self, newest: Callable[[], Lease]) -> None:
        self._newest = newest
        self._open: Lease | None = None
        self._changed = threading.Condition()

    @contextmanager
    def transaction(self) -> Iterator[Lease]:
        """For the block, a transaction is open, under the lease that it gets."""
        with self._changed:
            lease = self._open = self._newest()
        try:
            yield lease
        finally:
            with self._changed:
                self._open = None
                self._changed.notify_all()

    def wait_past(self, number: int, timeout_s: float) -> bool:
        """Wait until no transaction is open that began under a lease older than `number`; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open is None or self._open.number >= number, timeout_s)
