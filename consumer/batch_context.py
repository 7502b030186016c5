"""What a handler of batches can ask and send while it runs: `fairlane.context()`, and in it `each`.

Invariant: every task of a batch ends for itself. So what is sent belongs to one of them, and is written if that one
succeeds: a batch as a whole has no task, no attempt, and sends nothing.
"""

from __future__ import annotations

from typing import Any, NoReturn

from fairlane.consumer.context import Context
from fairlane.topics.errors import UsageError


class BatchContext(Context):
    """A batch that is running: `each` has the context of each of its tasks, in the order of the handler's list.

    Args:
        task_type: of its tasks.
        each: their contexts.
        deadline: Unix time in seconds after which the batch is cut off, or None.
    """

    __slots__ = ("_each", "_type")

    def __init__(self, task_type: str, each: tuple[Context, ...], deadline: float | None) -> None:
        self._type = task_type
        self._each = each
        self.deadline = deadline
        self.cancelled = False
        self._log = None

    def __getattr__(self, name: str) -> NoReturn:
        """What a context of one task has and this one was not given."""
        if name in ("task", "attempt"):
            raise UsageError(
                f"a batch runs here: it has {len(self._each)} tasks, and no {name} of its own",
                f"Ask each of its tasks: [one.{name} for one in context().each]",
            )
        if name in ("_outbox", "_to_record"):
            raise UsageError(
                "the tasks of a batch succeed or fail each for itself, so what is sent belongs to one of them",
                "Send it for that one: context().each[number].enqueue(…), or emit(…)",
            )
        raise AttributeError(name)

    @property
    def each(self) -> tuple[Context, ...]:
        """The contexts of its tasks, in the order of the handler's list."""
        return self._each

    @property
    def about(self) -> dict[str, Any]:
        """What a line of the log says of what runs here."""
        if len(self._each) == 1:
            return self._each[0].about
        return {"task_type": self._type, "batch_size": len(self._each)}

    def cancel(self) -> None:
        """Ask the handler to stop."""
        super().cancel()
        for one in self._each:
            one.cancel()
