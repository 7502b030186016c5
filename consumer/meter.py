"""What a worker has done: attempts by type, lane and how they ended, how long they took and waited, utilisation.

Invariant: told by the executor's loop, asked by the threads of the heartbeat and of who scrapes; what is counted only
ever grows, and memory is bounded: only types that have a handler are told apart, since anybody can send any other, and
only so many kinds of errors.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from fairlane.consumer.outcome import Cancelled, Completed, Dead, Expired, HandedBack, Outcome, Retrying
from fairlane.topics.events import Counters, TypeTimes
from fairlane.topics.task import Task

SAMPLES_MAX: Final = 500
WINDOW_MS: Final = 60_000
KINDS_MAX: Final = 50
OTHER: Final = "other"
"""Every type that has no handler here, and every kind of error after the first 50 of a type and lane."""

BOUNDS_MS: Final = (
    *(5, 10, 25, 50, 100, 250, 500),
    *(1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 1_800_000),
)
"""Upper bounds of the buckets of both histograms, ms: a wait of half an hour is as real as a task of 5 ms."""


BATCH_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""Upper bounds of the buckets of batches by their size, tasks."""


class Exemplar(NamedTuple):
    """One attempt of a bucket that has a trace."""

    traceparent: str
    took_ms: int
    finished_ms: int


class Tally:
    """The attempts at one type of tasks of one lane; counts only grow."""

    __slots__ = (
        "cancelled",
        "completed",
        "exemplars",
        "expired",
        "failed",
        "handed_back",
        "letters",
        "rejected",
        "retried",
        "times",
        "took",
        "took_ms",
        "waited",
        "waited_ms",
    )

    def __init__(self) -> None:
        self.completed = 0
        self.rejected = 0
        self.expired = 0
        self.cancelled = 0
        self.handed_back = 0
        self.failed: Counter[str] = Counter()
        """Those that are dead of an error, by its class."""
        self.retried: Counter[str] = Counter()
        self.letters: Counter[str] = Counter()
        """Dead letters, by reason."""
        self.took = [0] * (len(BOUNDS_MS) + 1)
        """How many attempts took so long, by bucket; the last one has no bound."""
        self.took_ms = 0
        self.waited = [0] * (len(BOUNDS_MS) + 1)
        """The same for how long they waited since they were due."""
        self.waited_ms = 0
        self.exemplars: dict[int, Exemplar] = {}
        self.times: deque[tuple[int, int]] = deque(maxlen=SAMPLES_MAX)

    def ran(self, task: Task, started_ms: int, finished_ms: int, traceparent: str) -> None:
        """A handler ran for the task."""
        took_ms = finished_ms - started_ms
        self.times.append((finished_ms, took_ms))
        bucket = bisect_left(BOUNDS_MS, took_ms)
        self.took[bucket] += 1
        self.took_ms += took_ms
        due_ms = task.not_before_ms
        waited_ms = started_ms - (due_ms if due_ms > task.enqueued_ms else task.enqueued_ms)
        self.waited[bisect_left(BOUNDS_MS, waited_ms)] += 1
        if waited_ms > 0:
            # Less is a producer whose clock is ahead of ours.
            self.waited_ms += waited_ms
        if traceparent:
            self.exemplars[bucket] = Exemplar(traceparent, took_ms, finished_ms)

    @property
    def dead(self) -> int:
        """Those that failed, were rejected or expired."""
        return self.rejected + self.expired + sum(self.failed.copy().values())


class Batched:
    """The batches of one type of tasks."""

    __slots__ = ("sizes", "tasks")

    def __init__(self) -> None:
        self.sizes = [0] * (len(BATCH_SIZES) + 1)
        """How many had so many tasks, by bucket."""
        self.tasks = 0


class Meter:
    """Counts attempts.

    Args:
        concurrency: attempts that can run at once.
        types: those that have a handler.
    """

    def __init__(self, concurrency: int, types: Collection[str]) -> None:
        self._concurrency = concurrency
        self._types = frozenset(types)
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._batched: dict[str, Batched] = {}
        self._running = 0
        self._balance_ms = 0.0
        """The ends of attempts less their starts; with `now` for what still runs, it is the time that they took."""
        self._looked_ms = 0.0
        self._looked_busy_ms = 0.0
        self._cpu = (0.0, 0.0)
        """When it was last asked, ms, and what the process had used then, seconds."""

    def started(self, now_ms: float, attempts: int = 1) -> None:
        """So many attempts begin."""
        if not self._looked_ms:
            self._looked_ms = now_ms
        self._running += attempts
        self._balance_ms -= now_ms * attempts

    def batch_started(self, task_type: str, size: int) -> None:
        """What began in one slot is a batch of so many tasks."""
        batched = self._batched.setdefault(task_type, Batched())
        batched.sizes[bisect_left(BATCH_SIZES, size)] += 1
        batched.tasks += size

    def batch_ended(self, outcomes: Iterable[Outcome], now_ms: float) -> None:
        """A batch is over, with these outcomes of its tasks."""
        for place, outcome in enumerate(outcomes):
            if place:
                # They were all in the one slot, which was counted as busy once.
                self.started(now_ms)
            self.ended(outcome, now_ms)

    def ended(self, outcome: Outcome, now_ms: float) -> None:
        """An attempt is over."""
        self._running -= 1
        self._balance_ms += now_ms
        if isinstance(outcome, Completed):
            # Nearly all are; what is done here is done for every task.
            task = outcome.delivery.task
            tally = self._tallies.get((task.type, task.lane)) or self._tally(task)
            tally.completed += 1
            tally.ran(task, outcome.started_ms, outcome.finished_ms, outcome.traceparent)
        elif isinstance(outcome, Retrying | Dead):
            self._went_wrong(outcome)
        elif isinstance(outcome, Expired):
            tally = self._tally(outcome.delivery.task)
            tally.expired += 1
            tally.letters["expired"] += 1
        elif isinstance(outcome, Cancelled):
            self._tally(outcome.delivery.task).cancelled += 1
        elif isinstance(outcome, HandedBack):
            self._tally(outcome.delivery.task).handed_back += 1

    def _went_wrong(self, outcome: Retrying | Dead) -> None:
        task = outcome.delivery.task
        tally = self._tally(task)
        kind = outcome.error.type if outcome.error is not None else ""
        if isinstance(outcome, Retrying):
            _count(tally.retried, kind)
        else:
            tally.letters[outcome.reason] += 1
            if outcome.reason == "rejected":
                tally.rejected += 1
            else:
                _count(tally.failed, kind)
        if _handler_ran(outcome):
            tally.ran(task, outcome.started_ms, outcome.finished_ms, outcome.traceparent)

    def _tally(self, task: Task) -> Tally:
        key = (self.known(task.type), task.lane)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        return tally

    def known(self, kind: str) -> str:
        """The name that a type is counted under."""
        return kind if kind in self._types else OTHER

    @property
    def tallies(self) -> Mapping[tuple[str, str], Tally]:
        """What was counted, by type and lane."""
        return self._tallies.copy()

    @property
    def batched(self) -> Mapping[str, Batched]:
        """The batches that were run, by type."""
        return self._batched.copy()

    @property
    def counters(self) -> Counters:
        """Attempts that ended since the worker started."""
        tallies = self.tallies.values()
        return Counters(
            sum(tally.completed for tally in tallies),
            sum(tally.dead for tally in tallies),
            sum(sum(tally.retried.copy().values()) for tally in tallies),
        )

    def utilisation(self, now_ms: float) -> float:
        """The share of its slots that were busy since this was last asked, from 0 to 1."""
        elapsed_ms = now_ms - self._looked_ms
        busy_ms = self._balance_ms + self._running * now_ms
        spent_ms = busy_ms - self._looked_busy_ms
        self._looked_ms, self._looked_busy_ms = now_ms, busy_ms
        # A clock that was set back shows no time that passed, rather than less of it.
        return min(1.0, max(0.0, spent_ms) / (elapsed_ms * self._concurrency)) if elapsed_ms > 0 else 0.0

    def cpu(self, used_s: float, now_ms: float) -> float:
        """The part of a core that the process has used since this was last asked.

        Args:
            used_s: processor time of the process so far, seconds.
            now_ms: Unix ms.
        """
        (before_ms, before_s), self._cpu = self._cpu, (now_ms, used_s)
        elapsed_s = (now_ms - before_ms) / 1000
        return max(0.0, used_s - before_s) / elapsed_s if elapsed_s > 0 and before_ms else 0.0

    def types(self, now_ms: int) -> dict[str, TypeTimes]:
        """Processing times of each task type: of the last minute, and in it of the last 500 attempts of each lane."""
        recent: dict[str, list[int]] = {}
        for (kind, _), tally in self.tallies.items():
            took = [took_ms for ended_ms, took_ms in tally.times.copy() if ended_ms >= now_ms - WINDOW_MS]
            if took:
                recent.setdefault(kind, []).extend(took)
        return {kind: _times(sorted(took)) for kind, took in recent.items()}


def _times(took: list[int]) -> TypeTimes:
    return TypeTimes(len(took), sum(took) / len(took), float(took[min(len(took) - 1, len(took) * 95 // 100)]))


def _count(counts: Counter[str], kind: str) -> None:
    counts[kind if kind in counts or len(counts) < KINDS_MAX else OTHER] += 1


def _handler_ran(outcome: Retrying | Dead) -> bool:
    """Whether one did: not where nobody knew the type, the payload did not fit, or a child process was lost on it."""
    if isinstance(outcome, Retrying):
        return outcome.task.attempt != outcome.delivery.task.attempt
    return outcome.reason not in ("no_handler", "invalid_payload")
