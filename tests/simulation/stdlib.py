"""What fairlane's modules find in place of `threading` and `time`, in a world of fibers.

Invariant: they have the names and the meaning of the real ones, as far as the worker uses them; every call of them is a
place where another fiber may go first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulation.world import Fiber, World


class Event:
    """`threading.Event`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_set = False
        self._waiting: list[tuple[int, Fiber]] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        waiting, self._waiting = self._waiting, []
        for wait, fiber in waiting:
            self._world.wake(fiber, wait)
        self._world.breathe()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        world = self._world
        ends_at = None if timeout is None else world.now + timeout
        while not self._is_set:
            left_s = None if ends_at is None else ends_at - world.now
            if left_s is not None and left_s <= 0:
                break
            fiber = world.current()
            self._waiting.append((fiber.waits + 1, fiber))
            world.wait(left_s)
        return self._is_set


class Condition:
    """`threading.Condition`: at most one fiber has its lock."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owner: Fiber | None = None
        self._changed = Event(world)

    def __enter__(self) -> None:
        while self._owner is not None and self._owner.process.alive:
            self._world.sleep(0.0005)
        self._owner = self._world.current()

    def __exit__(self, *_: object) -> None:
        self._owner = None

    def wait_for(self, done: Callable[[], object], timeout: float | None = None) -> bool:
        world = self._world
        ends_at = None if timeout is None else world.now + timeout
        while not done():
            left_s = None if ends_at is None else ends_at - world.now
            if left_s is not None and left_s <= 0:
                break
            self._changed.clear()
            self._owner = None
            self._changed.wait(left_s)
            self.__enter__()
        return bool(done())

    def notify_all(self) -> None:
        self._changed.set()


class Thread:
    """`threading.Thread`."""

    def __init__(self, world: World, target: Callable[[], object]) -> None:
        self._world = world
        self._target = target
        self._ended = Event(world)
        self._fiber: Fiber | None = None

    def start(self) -> None:
        self._fiber = self._world.spawn(self._run)

    def _run(self) -> None:
        try:
            self._target()
        finally:
            if self._world.process.alive:
                self._ended.set()

    def join(self, timeout: float | None = None) -> None:
        self._ended.wait(timeout)

    def is_alive(self) -> bool:
        return self._fiber is not None and not self._ended.is_set()


class Threading:
    """`threading`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def Event(self) -> Event:  # noqa: N802 - the name that it stands for
        return Event(self._world)

    def Lock(self) -> Condition:  # noqa: N802
        return Condition(self._world)

    def Condition(self) -> Condition:  # noqa: N802
        return Condition(self._world)

    def Thread(self, *, target: Callable[[], object], **_: Any) -> Thread:  # noqa: N802
        return Thread(self._world, target)


class Time:
    """`time`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        self._world.breathe()
        return self._world.now

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)


class DirectCaller:
    """`BoundedCaller`: what it calls always returns here, for calls that do not are a fault of the network."""

    def __init__(self, name: str) -> None:
        """Nothing is called yet."""

    def call(self, method: Callable[[], Any], timeout_s: float) -> None:
        method()

    def close(self) -> None:
        """Nothing is left."""
