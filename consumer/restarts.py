"""When a dead worker process is started again, when the pool gives up, and what the pool ends with.

Invariant: a pool ends only when none of its processes runs. A process that dies is started again after a growing wait,
unless it was told to end, cannot ever start, or dies young again and again: that is no accident but the program. A pool
of n processes has slots 0 to n - 1; those above are retired, each with all the time that draining takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from fairlane.consumer.shutdown import DRAINED, FAILED, GRACE_EXCEEDED
from fairlane.topics.errors import KafkaUnreachable, QueueError, UsageError

UNREACHABLE: Final = KafkaUnreachable.exit_code
FINAL: Final = frozenset({UsageError.exit_code, QueueError.exit_code})
"""Nobody mends a wrong call or a broken queue by starting again."""


@dataclass(frozen=True)
class RestartPolicy:
    """How patient a pool is.

    Attributes:
        base_s: the wait before the first restart, seconds.
        factor: what each further wait in a row grows by.
        max_s: the longest wait, seconds.
        young_s: a process that dies before it has run so long died young; one that dies later was an accident.
        deaths_max: so many young deaths of one slot in a row are a crash loop. More than `worker_lost_max`, or a single
            task that kills its workers would end the pool before it is found out.
    """

    base_s: float = 0.5
    factor: float = 2.0
    max_s: float = 30.0
    young_s: float = 10.0
    deaths_max: int = 5

    def wait_s(self, deaths: int) -> float:
        """How long to wait after so many deaths in a row, 1 or more."""
        # A power of a large number does not fit a float; the wait is at its longest long before.
        return min(self.max_s, self.base_s * self.factor ** min(deaths - 1, 64))


class Phase(Enum):
    """Where a pool is in its life."""

    RUNNING = "running"
    DRAINING = "draining: every process was asked to end"
    KILLING = "killing: there is no more time"


@dataclass(frozen=True)
class Start:
    """Start the process of a slot after so many seconds."""

    slot: int
    after_s: float


@dataclass(frozen=True)
class Terminate:
    """Ask the processes of these slots to end in good order."""

    slots: tuple[int, ...]


@dataclass(frozen=True)
class Retire:
    """Ask the processes of these slots to end in good order, while the pool goes on without them."""

    slots: tuple[int, ...]


@dataclass(frozen=True)
class EndNow:
    """End the processes of these slots at once; what they ran is run again."""

    slots: tuple[int, ...]


Command = Start | Terminate | Retire | EndNow


class _Slot:
    """What is known of one slot: since when its process runs (None: it does not), and its deaths in a row."""

    def __init__(self) -> None:
        self.since_s: float | None = None
        self.waits = False
        self.retiring = False
        self.young = 0
        self.unreachable = 0


class PoolState:
    """The state of a pool of worker processes, one a slot.

    Args:
        count: how many slots.
        policy: when to start again.
        wanted: how many of them have a process to begin with; all by default.
    """

    def __init__(self, count: int, policy: RestartPolicy, wanted: int | None = None) -> None:
        self.phase = Phase.RUNNING
        self.policy = policy
        self.gave_up = ""
        """Why the pool ends by itself; "" if it does not."""
        self.guilty = -1
        """The slot whose process is the reason."""
        self._slots = [_Slot() for _ in range(count)]
        self._wanted = count if wanted is None else wanted
        self._has_worked = False
        self._exit_code = DRAINED
        self._signal = 0

    def begin(self) -> list[Command]:
        """The pool begins: start its processes."""
        return [self._start(number, 0) for number in range(self._wanted)]

    def resize(self, wanted: int) -> list[Command]:
        """Have so many processes from now on."""
        if self.phase is not Phase.RUNNING:
            return []
        before, self._wanted = self._wanted, wanted
        for slot in self._slots[wanted:]:
            slot.waits = False
        # One that is still retiring is started again when it has ended.
        more = [number for number in range(before, wanted) if self._slots[number].since_s is None]
        fewer = tuple(self._asked(range(wanted, before)))
        for number in fewer:
            self._slots[number].retiring = True
        commands: list[Command] = [self._start(number, 0) for number in more]
        return [*commands, Retire(fewer)] if fewer else commands

    def started(self, slot: int, now_s: float) -> None:
        """The process of a slot was started."""
        self._slots[slot].since_s, self._slots[slot].waits = now_s, False

    def working(self, slot: int) -> None:
        """The process of a slot says that it works: Kafka is there, and so is the queue."""
        self._has_worked = True
        self._slots[slot].unreachable = 0

    def died(self, slot: int, code: int, now_s: float) -> list[Command]:
        """The process of a slot has ended.

        Args:
            slot: whose process.
            code: its exit code; -n where signal n killed it.
            now_s: the time, in seconds of any clock that only goes forward.
        """
        state = self._slots[slot]
        lived_s, state.since_s = now_s - (state.since_s if state.since_s is not None else now_s), None
        if self.phase is not Phase.RUNNING:
            self._ended_with(code)
            return []
        if state.retiring or slot >= self._wanted:
            state.retiring, state.young, state.unreachable = False, 0, 0
            return [self._start(slot, 0)] if slot < self._wanted else []
        if code in FINAL or (code == UNREACHABLE and not self._has_worked):
            return self._give_up(slot, code, "it cannot start")
        if code == UNREACHABLE:
            state.unreachable += 1
            return [self._start(slot, self.policy.wait_s(state.unreachable))]
        state.young = state.young + 1 if lived_s < self.policy.young_s else 0
        if state.young >= self.policy.deaths_max:
            died = f"it died {state.young} times in a row within {self.policy.young_s:g} s of its start"
            return self._give_up(slot, FAILED, f"{died}, the last time with {named(code)}")
        return [self._start(slot, self.policy.wait_s(max(1, state.young)))]

    def signalled(self, number: int) -> list[Command]:
        """The pool was asked to end by a signal: the first time in good order, the second time at once."""
        if self.phase is Phase.RUNNING:
            return self._drain()
        if self.phase is Phase.DRAINING:
            self.phase, self._signal = Phase.KILLING, number
            return [EndNow(self.running)]
        return []

    def out_of_time(self) -> list[Command]:
        """The processes had all the time that draining may take, and some still run."""
        if self.phase is not Phase.DRAINING:
            return []
        self.phase = Phase.KILLING
        self._worsen(GRACE_EXCEEDED)
        return [EndNow(self.running)]

    @property
    def running(self) -> tuple[int, ...]:
        """The slots whose process runs."""
        return tuple(number for number, slot in enumerate(self._slots) if slot.since_s is not None)

    @property
    def ended(self) -> bool:
        """Whether it is over: asked to end or given up, and no process runs."""
        return self.phase is not Phase.RUNNING and not self.running

    @property
    def exit_code(self) -> int:
        """What the pool ends with: the worst of its processes, by the contract of the CLI."""
        return 128 + self._signal if self._signal else self._exit_code

    def may_start(self, slot: int) -> bool:
        """Whether a start that was waited for is still wanted."""
        return self.phase is Phase.RUNNING and self._slots[slot].waits

    def _start(self, slot: int, after_s: float) -> Start:
        self._slots[slot].waits = True
        return Start(slot, after_s)

    def _give_up(self, slot: int, code: int, reason: str) -> list[Command]:
        self.gave_up, self.guilty = reason, slot
        self._exit_code = code
        return self._drain()

    def _drain(self) -> list[Command]:
        self.phase = Phase.DRAINING
        return [Terminate(tuple(self._asked(self.running)))]

    def _asked(self, slots: Iterable[int]) -> Iterator[int]:
        """Those of the slots whose process runs and was not asked to end yet: asked twice, it would end at once."""
        return (slot for slot in slots if self._slots[slot].since_s is not None and not self._slots[slot].retiring)

    def _ended_with(self, code: int) -> None:
        if self.phase is Phase.KILLING:
            return  # that was us
        # SIGTERM itself ends a process that was not yet far enough to drain, and so had nothing to drain.
        self._worsen({DRAINED: DRAINED, -15: DRAINED, GRACE_EXCEEDED: GRACE_EXCEEDED}.get(code, FAILED))

    def _worsen(self, code: int) -> None:
        if not self.gave_up:
            self._exit_code = max(self._exit_code, code, key=(DRAINED, GRACE_EXCEEDED, FAILED).index)


def named(code: int) -> str:
    """How a process ended, in words."""
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
