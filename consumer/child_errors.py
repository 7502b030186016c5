"""What an attempt in a child process failed with, as the parent raises it.

Invariant: nothing is unpickled. An exception of the handler's crosses as text and as the names of its classes, by which
the retry policy judges it; so one that cannot be pickled, or whose class the parent does not know, is like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from fairlane.topics.errors import InvalidPayload
from fairlane.topics.events import ErrorInfo
from fairlane.topics.secrets import redacted


class FromChild(Exception):
    """An error whose description was made where it happened; this process may know secrets that that one did not."""

    def __init__(self, info: ErrorInfo) -> None:
        self.info = ErrorInfo(info.type, redacted(info.message), redacted(info.traceback))
        super().__init__(self.info.message)


class RaisedInChild(FromChild):
    """The handler raised.

    Attributes:
        kinds: full names of the exception's classes, its own first.
    """

    def __init__(self, info: ErrorInfo, kinds: tuple[str, ...]) -> None:
        super().__init__(info)
        self.kinds = frozenset(kinds)

    def is_any_of(self, classes: Iterable[type[BaseException]]) -> bool:
        """What `isinstance` would say in the child."""
        return not self.kinds.isdisjoint(map(full_name, classes))


class ChildLost(FromChild):
    """The child process is gone, and the attempt with it: a worker lost, at no attempt's cost.

    Attributes:
        losses_max: after how many losses the task is dead.
    """

    def __init__(self, how: str, crash: str, losses_max: int) -> None:
        super().__init__(ErrorInfo("ChildLost", how, crash))
        self.losses_max = losses_max


class PayloadRefused(Exception):
    """The payload does not fit the handler: it did not run.

    In logs and spans it has the name that this has wherever a handler runs.

    Attributes:
        error: says where it does not fit.
        patience_s: how long a worker may take to come whose handler knows it, seconds.
    """

    __qualname__ = "InvalidPayload"

    def __init__(self, error: InvalidPayload, patience_s: float) -> None:
        super().__init__(str(error))
        self.error = error
        self.patience_s = patience_s


def is_any_of(error: BaseException, classes: tuple[type[BaseException], ...]) -> bool:
    """Whether an error is of one of these classes, wherever it was raised."""
    return error.is_any_of(classes) if isinstance(error, RaisedInChild) else isinstance(error, classes)


def full_name(kind: type) -> str:
    """The name by which an exception class is known on both sides."""
    return f"{kind.__module__}.{kind.__qualname__}"


def raised(info: ErrorInfo, kinds: tuple[str, ...]) -> RaisedInChild:
    """The exception for what a handler raised; its class has the name of the one in the child, for logs and spans."""
    return _class_of(kinds[0], info.type)(info, kinds)


@lru_cache(maxsize=256)
def _class_of(full: str, name: str) -> type[RaisedInChild]:
    module = full.removesuffix(f".{name}")
    return type(name, (RaisedInChild,), {"__module__": module, "__qualname__": name})
