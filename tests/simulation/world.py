"""A world on virtual time: processes whose threads are fibers, one of which runs at a time.

Invariant: a world is a function of its random numbers. What a fiber does between two waits happens at one moment; which
of several fibers that are due goes first is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from greenlet import getcurrent, greenlet


class ProcessKilled(BaseException):
    """The process of this fiber is dead: it does nothing more."""


class Process:
    """A process of the world: it may be killed or stopped, and its clock may be wrong."""

    def __init__(self, name: str, skew_ms: int = 0) -> None:
        self.name = name
        self.skew_ms = skew_ms
        self.alive = True
        self.silent_since: float | None = None
        """Since when nobody hears of it."""
        self.frozen = False


class Fiber:
    """A thread of a process."""

    __slots__ = ("alive", "greenlet", "process", "waits")

    def __init__(self, process: Process, run: Callable[[], object], hub: greenlet) -> None:
        self.process = process
        self.alive = True
        self.waits = 0
        """Counts its waits; one that is woken out of an older wait sleeps on."""

        def body() -> None:
            try:
                run()
            except ProcessKilled:
                pass
            finally:
                self.alive = False

        self.greenlet = greenlet(body, hub)


class World:
    """Owns time, and who runs.

    Args:
        rng: the only source of chance.
        began_ms: what its clocks show at its beginning, Unix ms.
    """

    def __init__(self, rng: Random, began_ms: int = 1_790_000_000_000) -> None:
        self.rng = rng
        self.now = 0.0
        self.steps = 0
        self.outside = Process("outside")
        self._began_ms = began_ms
        self._hub = getcurrent()
        self._due: list[tuple[float, float, int, int, Fiber]] = []
        self._number = 0
        self._current: Fiber | None = None
        self._fibers: dict[Process, list[Fiber]] = {}
        self._held_back: list[tuple[int, Fiber]] = []
        """What is due in processes that are stopped."""

    @property
    def process(self) -> Process:
        """The process that is running."""
        return self._current.process if self._current is not None else self.outside

    def now_ms(self) -> int:
        """Unix milliseconds by the clock of the process that is running."""
        return self.true_ms() + self.process.skew_ms

    def true_ms(self) -> int:
        """Unix milliseconds."""
        return self._began_ms + int(self.now * 1000)

    def spawn(self, run: Callable[[], object], process: Process | None = None) -> Fiber:
        """Start a thread of a process: the one that is running, unless it is named."""
        fiber = Fiber(process or self.process, run, self._hub)
        self._fibers.setdefault(fiber.process, []).append(fiber)
        self.wake(fiber, 0)
        return fiber

    def wake(self, fiber: Fiber, wait: int, at: float | None = None) -> None:
        """Let a fiber go on from its wait of this number, now or at a time."""
        self._number += 1
        due = self.now if at is None else at
        heappush(self._due, (due, self.rng.random(), self._number, wait, fiber))

    def current(self) -> Fiber:
        """The fiber that is running."""
        assert self._current is not None
        return self._current

    def wait(self, seconds: float | None) -> None:
        """Let others run until this fiber is woken, or so long."""
        fiber = self._current
        assert fiber is not None, "only fibers wait"
        if not fiber.process.alive:
            raise ProcessKilled
        fiber.waits += 1
        if seconds is not None:
            self.wake(fiber, fiber.waits, self.now + max(0.0, seconds))
        self._hub.switch()
        if not fiber.process.alive:
            raise ProcessKilled

    def sleep(self, seconds: float) -> None:
        """Let so much time go by."""
        self.wait(seconds)

    def breathe(self) -> None:
        """Let others go first, perhaps: a thread may be interrupted anywhere."""
        if self._current is not None and self.rng.random() < 0.02:
            self.wait(self.rng.expovariate(1 / 0.003))

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Let the world go on for as long as it should."""
        while self._due and goes_on():
            due, _, _, wait, fiber = heappop(self._due)
            if not fiber.alive or wait != fiber.waits:
                continue
            if fiber.process.frozen:
                self._held_back.append((wait, fiber))
                continue
            self.now = max(self.now, due)
            self.steps += 1
            self._switch(fiber)

    def _switch(self, fiber: Fiber) -> None:
        self._current = fiber
        try:
            fiber.greenlet.switch()
        finally:
            self._current = None

    # What happens to processes; from outside of them.

    def kill(self, process: Process) -> None:
        """SIGKILL. Its threads end where they are, without any effect."""
        process.alive = False
        process.frozen = False
        if process.silent_since is None:
            process.silent_since = self.now
        # A fiber that kills its own process ends at its next wait; the others in the run of the world.
        for fiber in self._fibers.pop(process, []):
            if fiber.alive and fiber is not self._current:
                self.wake(fiber, fiber.waits)

    def freeze(self, process: Process) -> None:
        """SIGSTOP."""
        process.frozen = True
        process.silent_since = self.now

    def thaw(self, process: Process) -> None:
        """SIGCONT."""
        process.frozen = False
        if process.alive:
            process.silent_since = None
        waiting, self._held_back = self._held_back, []
        for wait, fiber in waiting:
            if fiber.process is process:
                self.wake(fiber, wait)
            else:
                self._held_back.append((wait, fiber))

    def end(self) -> None:
        """Let every fiber end."""
        for process in list(self._fibers):
            process.alive = False
            for fiber in self._fibers.pop(process):
                while fiber.alive and fiber.greenlet:
                    fiber.process.frozen = False
                    self._switch(fiber)
                fiber.alive = False
