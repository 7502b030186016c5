"""What became of a task that ran at once.

Invariant: a run is told only here, in order, and what it tells is what a worker would have settled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from fairlane.consumer.outcome import Completed, Dead, Expired, OutboxRecord, Outcome, Retrying
from fairlane.topics.errors import ResultTimeout, TaskFailed
from fairlane.topics.events import State, StatusEvent
from fairlane.topics.task import Task


@dataclass(frozen=True)
class Attempt:
    """One run of the handler.

    Attributes:
        number: the first is 1.
        waited_s: how long a worker would have waited before it, seconds. Here nobody did.
        outcome: what it led to.
        error: what the handler raised, the very exception; None if it returned, or was not run.
    """

    number: int
    waited_s: float
    outcome: Outcome
    error: BaseException | None


@dataclass(eq=False)
class Run:
    """A task that was enqueued, and all that followed at once.

    Attributes:
        task: as a worker would have read it.
        attempts: in order; none if the app has no handler of its type.
        enqueued: the runs of the tasks that its handler enqueued, through its context or directly.
        emitted: records that it emitted through its context to topics that are none of the queue's lanes.
    """

    task: Task
    load: Callable[[bytes], Any]
    attempts: list[Attempt] = field(default_factory=list)
    enqueued: list[Run] = field(default_factory=list)
    emitted: list[OutboxRecord] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The task's id."""
        return self.task.id

    @property
    def type(self) -> str:
        """The task's type."""
        return self.task.type

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What each attempt led to."""
        return tuple(attempt.outcome for attempt in self.attempts)

    @property
    def delays_s(self) -> tuple[float, ...]:
        """How long a worker would have waited, wait by wait, seconds; with the jitter of the retry policy."""
        return tuple(attempt.waited_s for attempt in self.attempts if attempt.waited_s)

    @property
    def errors(self) -> tuple[BaseException, ...]:
        """What the handler raised, attempt by attempt."""
        return tuple(attempt.error for attempt in self.attempts if attempt.error is not None)

    @property
    def state(self) -> State:
        """`completed`, `failed` or `expired`; `pending` if the app has no handler of its type, `running` meanwhile."""
        if not self.attempts:
            return "pending"
        match self.attempts[-1].outcome:
            case Completed():
                return "completed"
            case Dead():
                return "failed"
            case Expired():
                return "expired"
            case _:
                return "running"

    @property
    def reason(self) -> str:
        """Why it is dead, "" if it is not."""
        match self.attempts[-1].outcome if self.attempts else None:
            case Dead(reason=reason):
                return reason
            case Expired():
                return "expired"
            case _:
                return ""

    @property
    def result(self) -> Any:
        """What the handler returned, as whoever waits for it gets it: written as JSON and read again.

        Raises:
            TaskFailed: it ended without a result; the last exception of the handler is the cause.
            ResultTimeout: it has not ended.
        """
        outcome = self.attempts[-1].outcome if self.attempts else None
        if isinstance(outcome, Completed):
            return self.load(outcome.result)
        if not isinstance(outcome, Dead | Expired):
            raise ResultTimeout(self.id, 0.0)
        error = outcome.error if isinstance(outcome, Dead) else None
        cause = self.attempts[-1].error
        raise TaskFailed(
            self.id,
            self.state,
            self.reason,
            error.type if error else "",
            error.message if error else "",
            error.traceback if error else "",
        ) from cause

    def status(self) -> StatusEvent:
        """Its newest status event."""
        last = self.attempts[-1] if self.attempts else None
        outcome = last.outcome if last else None
        error = outcome.error if isinstance(outcome, Dead | Retrying) else None
        return StatusEvent(
            id=self.id,
            type=self.type,
            state=self.state,
            lane=self.task.lane,
            attempt=last.number if last else 0,
            max_attempts=self.task.max_attempts,
            enqueued_ms=self.task.enqueued_ms,
            reason=self.reason,
            error=error,
        )

    def __repr__(self) -> str:
        tried = f"{len(self.attempts)} attempt{'' if len(self.attempts) == 1 else 's'}"
        why = f" ({self.reason})" if self.reason else ""
        return f"<Run {self.type!r}: {self.state}{why} after {tried}, {self.task.value[:200]!r}>"


class Runs(Sequence[Run]):
    """All tasks that were enqueued, in order."""

    def __init__(self) -> None:
        self._runs: list[Run] = []

    def add(self, run: Run) -> None:
        """One more was enqueued."""
        self._runs.append(run)

    def of(self, task_type: str) -> list[Run]:
        """Those of a type."""
        return [run for run in self._runs if run.type == task_type]

    def find(self, task_id: str) -> Run | None:
        """The newest of an id."""
        return next((run for run in reversed(self._runs) if run.id == task_id), None)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | list[Run]:
        return self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __repr__(self) -> str:
        return f"<Runs {self._runs!r}>"
