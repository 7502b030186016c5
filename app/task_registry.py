"""The task types of an app: which function has which type, and under which terms it is enqueued.

Invariant: a type names one function. A second function that asks for it is an error that names both, so that no task is
ever run by another function than the one that was meant.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, overload

from fairlane.consumer.adaptive import Adaptive
from fairlane.consumer.batches import BatchPolicy
from fairlane.consumer.handlers import Handler, HeadOfLine, Isolation
from fairlane.consumer.retry import RetryPolicy
from fairlane.registrars import BatchRegistrar, Registrar
from fairlane.scheduling import Every, check_options, schedule_of
from fairlane.sender import Sender
from fairlane.settings import Settings
from fairlane.task_definition import AsyncTask, BatchTask, SyncTask, TaskDefinition
from fairlane.task_options import Options, Terms, lane_of
from fairlane.topics.errors import UsageError
from fairlane.topics.names import DEFAULT_LEVEL, Lane
from fairlane.topics.payload import Signature
from fairlane.topics.routing import lane_for
from fairlane.topics.schedules import Misfire, Schedule

P = ParamSpec("P")
R = TypeVar("R")

AnyDefinition = TypeVar("AnyDefinition", bound=TaskDefinition[..., Any])

AnyTask = AsyncTask[..., Any] | SyncTask[..., Any] | BatchTask[Any, Any, Any]


class TaskRegistry(ABC):
    """The part of an app that defines tasks."""

    def __init__(self) -> None:
        self._tasks: dict[str, AnyTask] = {}
        self._schedules: dict[str, Schedule] = {}

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """The settings of the app."""

    @abstractmethod
    def use_settings(self, settings: Settings) -> None:
        """Use other settings from now on."""

    @property
    @abstractmethod
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes of the queue, the most urgent first."""

    @property
    @abstractmethod
    def sender(self) -> Sender:
        """Who takes the tasks."""

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What a worker needs to run the tasks, by task type."""
        return MappingProxyType({name: task.handler for name, task in self._tasks.items()})

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """What is due by the clock, by `@app.schedule`."""
        return tuple(self._schedules.values())

    def schedule(
        self,
        when: str | Every,
        *,
        name: str = "",
        tz: str = "UTC",
        misfire: Misfire = "latest",
        jitter_s: float = 0.0,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = MappingProxyType({}),
        **options: Unpack[Options],
    ) -> Callable[[AnyDefinition], AnyDefinition]:
        """Have tasks of a type enqueued by the clock, each instant once: `@app.schedule("0 9 * * 1-5")` on a task.

        Workers do it, whichever of them owns the schedule: there is no scheduler to run. A later deployment that says
        it differently, or no more, changes it, or removes it.

        Args:
            when: a cron expression of five fields, or six with the seconds first; or `every(30)`.
            name: of the schedule, unique in the queue; the task's type by default.
            tz: time zone that the expression goes by, as `Europe/Berlin`.
            misfire: what becomes of instants for which no worker was there, or came more than a minute late: `skip`
                them, enqueue the `latest`, or `all` of them, up to 1,000.
            jitter_s: its tasks are due up to so much later, seconds: each by its own, whoever draws it.
            args: of the task's function.
            kwargs: of the task's function.
            options: as for an enqueue: priority, key, max_attempts, timeout_s, expires_s.

        Raises:
            UsageError: it is never due, the name is none or taken, or an option does not exist.
            PayloadError: the arguments do not fit the function.
        """
        check_options(options)

        def register(task: AnyDefinition) -> AnyDefinition:
            if not isinstance(task, TaskDefinition):
                raise UsageError(
                    f"{task!r} is no task", "Write @app.schedule(…) above @app.task, and both above the function"
                )
            found = schedule_of(
                when,
                task.options(**options) if options else task,
                task.type,
                name=name,
                tz=tz,
                misfire=misfire,
                jitter_s=jitter_s,
                args=args,
                kwargs=kwargs,
            )
            other = self._schedules.get(found.name)
            if other is not None and other.type != found.type:
                raise UsageError(f"schedule {found.name!r} is one of {other.type!r} already", "Give it another name")
            if other is not None and other != found:
                raise UsageError(f"there are two schedules {found.name!r}", "Name them: @app.schedule(…, name='some')")
            self._schedules[found.name] = found
            return task

        return register

    @overload
    def task(  # type: ignore[overload-overlap]
        self, type: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(self, type: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def task(
        self,
        type: str | None = None,
        *,
        priority: int = ...,
        retry: RetryPolicy = ...,
        timeout_s: float | None = ...,
        expires_s: float | None = ...,
        concurrency: int | Adaptive | None = ...,
        isolation: Isolation = ...,
        on_invalid: Literal["dead", "retry"] = ...,
        version: int = ...,
        memory_max_mib: int | None = ...,
        max_tasks_per_child: int | None = ...,
        max_mib_per_child: int | None = ...,
        batch: None = ...,
        head_of_line: HeadOfLine | None = ...,
    ) -> Registrar: ...
    @overload
    def task(
        self,
        type: str | None = None,
        *,
        batch: BatchPolicy,
        priority: int = ...,
        retry: RetryPolicy = ...,
        timeout_s: float | None = ...,
        expires_s: float | None = ...,
        concurrency: int | None = ...,
        isolation: Literal["auto", "loop", "thread"] = ...,
        on_invalid: Literal["dead", "retry"] = ...,
        version: int = ...,
        head_of_line: HeadOfLine | None = ...,
    ) -> BatchRegistrar: ...
    def task(
        self,
        type: str | Callable[..., Any] | None = None,  # noqa: A002
        *,
        priority: int = DEFAULT_LEVEL,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
        expires_s: float | None = None,
        concurrency: int | Adaptive | None = None,
        isolation: Isolation = "auto",
        on_invalid: Literal["dead", "retry"] = "dead",
        version: int = 1,
        memory_max_mib: int | None = None,
        max_tasks_per_child: int | None = None,
        max_mib_per_child: int | None = None,
        batch: BatchPolicy | None = None,
        head_of_line: HeadOfLine | None = None,
    ) -> Any:
        """Make a function a task: `@app.task`, or `@app.task(priority=5, …)`, on `def` or `async def`.

        Args:
            type: the task type, which clients of any language name; the function's name by default. Name it yourself
                where the function may be renamed while tasks of it wait.
            priority: level of the lane that it is enqueued in unless an option says otherwise.
            retry: when and how often a failed attempt is tried again.
            timeout_s: how long one attempt may take, seconds; None is as long as it likes.
            expires_s: how long after its enqueue a task is not worth a start any more, seconds; None is never.
            concurrency: how many attempts or batches of it one worker process runs at once; `Adaptive(min=4, max=200)`
                is as many attempts as it bears, by what they take; None is as many as the worker can.
            isolation: where it runs; `auto` is the event loop for `async def` and a thread for `def`; `process` is a
                child process, which is killed when its time is up and may die without taking the worker with it.
            on_invalid: what becomes of a payload that does not fit: `dead` at once, or `retry` for a newer worker.
            version: of the handler, shown in traces.
            memory_max_mib: how much memory a child process may use before it is killed, MiB resident; None is as much
                as there is. Only with `isolation="process"`, as the two that follow.
            max_tasks_per_child: after how many attempts a child process makes room for a new one; None is never.
            max_mib_per_child: above how much memory it does so when an attempt has ended, MiB; None is never.
            batch: give the function the payloads of so many tasks at once, as a list; it returns None, or a list with a
                result or an exception for each. None gives it one task, as its arguments.
            head_of_line: what becomes of a task of it that holds back its partition: `move` it aside, or only `show`
                it; None is as the worker's settings say.

        Raises:
            UsageError: another function has the type already, no lane has the priority, the signature says nothing
                of the payload, or no other process could import the function that is to run in one.
        """
        if callable(type):
            return self.task()(type)

        def register(function: Callable[..., Any]) -> Any:
            name = type or getattr(function, "__name__", "")
            if not name or not name.isprintable():
                raise UsageError(f"{name!r} is no task type", "Name it: @app.task('some.name')")
            signature = (Signature.of if batch is None else Signature.of_items)(function, task_type=name)
            of_child = memory_max_mib, max_tasks_per_child, max_mib_per_child
            handler = Handler(
                name,
                function,
                signature,
                retry,
                timeout_s,
                concurrency,
                isolation,
                on_invalid,
                version,
                *of_child,
                batch,
                head_of_line,
            )
            # Nobody asked for the default: where it has no lane, the nearest one will do.
            lane = (lane_for if priority == DEFAULT_LEVEL else lane_of)(priority, self.lanes)
            terms = Terms(lane).with_options({"expires_s": expires_s}, self.lanes)
            return self._register(handler, terms)

        return register

    def _register(self, handler: Handler, terms: Terms) -> AnyTask:
        other = self._tasks.get(handler.type)
        if other is not None and not _is_the_same(other.handler.function, handler.function):
            raise UsageError(
                f"task type {handler.type!r} is taken by {_place(other.handler.function)}, "
                f"and {_place(handler.function)} asks for it too",
                "Give one of them a name of its own: @app.task('some.name')",
            )
        kind = BatchTask if handler.batch is not None else AsyncTask if handler.is_async else SyncTask
        task: AnyTask = kind(self, handler, terms)
        self._tasks[handler.type] = task
        return task


def _place(function: Callable[..., Any]) -> str:
    file, line = _line(function)
    return f"{function.__module__}.{getattr(function, '__qualname__', function)} ({file}:{line})"


def _is_the_same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether one is the other made anew: a module that is loaded again, a cell of a notebook that is run again."""
    if (one.__module__, getattr(one, "__qualname__", "")) != (other.__module__, getattr(other, "__qualname__", "")):
        return False
    places = [_line(function) for function in (one, other)]
    return places[0][0] != places[1][0] or places[0] == places[1]


def _line(function: Callable[..., Any]) -> tuple[str, int]:
    code = getattr(function, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)
