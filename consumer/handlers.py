"""A handler: the user's function for one task type, with all that a worker must know to run it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fairlane.consumer.adaptive import Adaptive
from fairlane.consumer.batches import BatchPolicy
from fairlane.consumer.retry import RetryPolicy
from fairlane.consumer.target import target_of
from fairlane.topics.errors import UsageError
from fairlane.topics.payload import Signature

Isolation = Literal["auto", "loop", "thread", "process"]
"""Where a handler runs: on the event loop, on a thread, in a child process that can be killed, or by its kind (`async
def` on the loop, `def` on a thread)."""

HeadOfLine = Literal["move", "show"]
"""What becomes of a task that holds back its partition: it is moved aside, or only shown."""


@dataclass(frozen=True)
class Handler:
    """One task type's function and policies.

    Attributes:
        type: the task type that it handles.
        function: `async def` or `def`.
        signature: turns payload bytes into its arguments and its result into bytes.
        retry: when and how often it is tried again.
        timeout_s: how long one attempt may take, seconds; None is as long as it likes.
        concurrency: how many attempts or batches of this type one worker process runs at once; `Adaptive(min, max)` is
            as many attempts as it bears, None is as many as the worker can.
        isolation: where it runs.
        on_invalid: what becomes of a payload that does not fit: `dead` at once, or `retry` for a newer worker to take.
        version: of the handler, shown in traces.
        memory_max_mib: how much memory the process of an attempt may use before it is killed, MiB resident; None is as
            much as there is. Only for `isolation="process"`, as the two that follow.
        max_tasks_per_child: after how many attempts a child process makes room for a new one; None is never.
        max_mib_per_child: above how much memory it does so when an attempt has ended, MiB resident; None is never.
        batch: how many tasks the function is given at once, as a list; None gives it one, as its arguments.
        head_of_line: what becomes of a task of it that holds back its partition; None is as the worker's setting says.
        is_async: whether the function is `async def`; looked at once, not at every attempt.
    """

    type: str
    function: Callable[..., Any]
    signature: Signature
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_s: float | None = None
    concurrency: int | Adaptive | None = None
    isolation: Isolation = "auto"
    on_invalid: Literal["dead", "retry"] = "dead"
    version: int = 1
    memory_max_mib: int | None = None
    max_tasks_per_child: int | None = None
    max_mib_per_child: int | None = None
    batch: BatchPolicy | None = None
    head_of_line: HeadOfLine | None = None
    is_async: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_async", inspect.iscoroutinefunction(self.function))
        if self.timeout_s is not None and self.timeout_s <= 0:
            raise UsageError(f"task {self.type!r} has timeout_s={self.timeout_s}", "Give seconds above 0, or None")
        if isinstance(self.concurrency, int) and self.concurrency < 1:
            raise UsageError(
                f"task {self.type!r} has concurrency={self.concurrency}",
                "Give 1 or more, or Adaptive(min=1, max=100), or None",
            )
        if self.isolation == "loop" and not self.is_async:
            raise UsageError(
                f"task {self.type!r} is a plain def and cannot run on the event loop", "Make it async def, or drop it"
            )
        if self.isolation == "thread" and self.is_async:
            raise UsageError(f"task {self.type!r} is async def and cannot run on a thread", "Make it a plain def")
        self._check_batch()
        if self.head_of_line not in (None, *get_args(HeadOfLine)):
            raise UsageError(f"task {self.type!r} has head_of_line={self.head_of_line!r}", 'Say "move" or "show"')
        self._check_process()

    def _check_batch(self) -> None:
        if self.batch is None:
            return
        if self.isolation == "process":
            raise UsageError(
                f"task {self.type!r} runs in batches, and a child process runs one task at a time",
                'Drop batch, or isolation="process"',
            )
        if isinstance(self.concurrency, Adaptive):
            raise UsageError(
                f"task {self.type!r} runs in batches, and Adaptive judges by what single tasks take",
                "Say how many batches run at once: concurrency=4",
            )

    def _check_process(self) -> None:
        if self.isolation == "process":
            target_of(self.function, self.type)
        for name in ("memory_max_mib", "max_tasks_per_child", "max_mib_per_child"):
            value = getattr(self, name)
            if value is None:
                continue
            if self.isolation != "process":
                raise UsageError(f"task {self.type!r} has {name}, and no process of its own", 'Say isolation="process"')
            if value < 1:
                raise UsageError(f"task {self.type!r} has {name}={value}", "Give 1 or more, or None")


Handlers = Mapping[str, Handler]
"""The handlers of a worker by task type."""

Middleware = Callable[[Any, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""`async def middleware(context, call_next)`: wraps every attempt; what it returns is the result."""
