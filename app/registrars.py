"""What `app.task(…)` returns: the decorators, typed by the functions that they take.

Invariant: what can be enqueued, and what comes of it, follows from the function's annotations, for mypy as at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from fairlane.task_definition import AsyncTask, BatchTask, SyncTask

P = ParamSpec("P")
R = TypeVar("R")
I = TypeVar("I")  # noqa: E741 - an item


class Registrar(Protocol):
    """What `app.task(…)` returns: the decorator."""

    # What is `async def` also is a function that returns something: the first that fits is meant.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...


class BatchRegistrar(Protocol):
    """What `app.task(batch=…)` returns: the decorator of a function that takes a list of payloads.

    A list of results may hold exceptions, which are the failures of single tasks and no results.
    """

    @overload
    def __call__(
        self, function: Callable[[list[I]], Coroutine[Any, Any, None]], /
    ) -> BatchTask[I, None, Coroutine[Any, Any, None]]: ...
    @overload
    def __call__(self, function: Callable[[list[I]], None], /) -> BatchTask[I, None, None]: ...
    @overload
    def __call__(
        self, function: Callable[[list[I]], Coroutine[Any, Any, list[R | Exception]]], /
    ) -> BatchTask[I, R, Coroutine[Any, Any, list[R | Exception]]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[I]], list[R | Exception]], /
    ) -> BatchTask[I, R, list[R | Exception]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[I]], Coroutine[Any, Any, list[R | BaseException]]], /
    ) -> BatchTask[I, R, Coroutine[Any, Any, list[R | BaseException]]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[I]], list[R | BaseException]], /
    ) -> BatchTask[I, R, list[R | BaseException]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[I]], Coroutine[Any, Any, list[R]]], /
    ) -> BatchTask[I, R, Coroutine[Any, Any, list[R]]]: ...
    @overload
    def __call__(self, function: Callable[[list[I]], list[R]], /) -> BatchTask[I, R, list[R]]: ...
