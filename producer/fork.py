"""What becomes of Kafka clients when the process forks.

Invariant: a client is used, and destroyed, only by the process that made it. librdkafka's threads do not exist in the
child, so that even freeing its copy there would wait for them for ever: the child keeps the memory untouched.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any, Protocol


class Forkable(Protocol):
    """Something that holds clients or threads, and can begin afresh without them."""

    def after_fork_in_child(self) -> None:
        """Forget what belongs to the parent. Runs in the child, before anything else does."""
        ...


_held: weakref.WeakSet[Forkable] = weakref.WeakSet()


def hold(holder: Forkable) -> None:
    """Have `holder` begin afresh in every child that this process forks."""
    _held.add(holder)


def abandon(client: Any) -> None:
    """Never free this client: it is the parent's. Its reference count is raised for good, finalisation included."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))


def _begin_afresh() -> None:
    for holder in list(_held):
        holder.after_fork_in_child()


os.register_at_fork(after_in_child=_begin_afresh)
