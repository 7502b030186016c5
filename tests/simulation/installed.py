"""Puts a world in the place of threads, time and Kafka for fairlane's modules, while it lasts.

Invariant: the modules themselves are unchanged: what they call is looked up in their own names, and those are put back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from fairlane.consumer import (
    announcing,
    barrier,
    changelog,
    engine,
    feed,
    flow,
    owners,
    positions,
    reader,
    settler,
    transaction,
)
from fairlane.testing.memory import MemoryBroker
from simulation.network import Network
from simulation.stdlib import DirectCaller, Threading, Time
from simulation.world import World

Log = Callable[[str], object]
ON_TIME = (announcing, changelog, engine, positions, reader, settler, transaction)
ON_THREADS = (barrier, feed, owners, reader, settler)


@contextmanager
def installed(
    world: World, broker: MemoryBroker, network: Network, *, unfinished: int, span: int, log: Log | None = None
) -> Iterator[None]:
    """For the block, fairlane's worker lives in the world.

    Args:
        world: where it lives.
        broker: its Kafka.
        network: what is between them.
        unfinished: what a map is sure to hold, in place of MAX_UNFINISHED: smaller, so that a short run gets there.
        span: the same of MAX_SPAN.
        log: is told what the workers log, with the time and the process; None leaves it out.
    """

    def client(make: Any) -> Any:
        def made(properties: Any, **_: Any) -> Any:
            found = make(properties)
            network.processes[id(found)] = world.process
            kept.append(found)
            return found

        return made

    kept: list[object] = []
    replaced: list[tuple[object, str, object]] = [
        *((module, "time", Time(world)) for module in ON_TIME),
        *((module, "threading", Threading(world)) for module in ON_THREADS),
        *((module, "now_ms", world.now_ms) for module in (announcing, owners, reader)),
        (changelog, "Consumer", client(broker.consumer)),
        (announcing, "Producer", client(broker.producer)),
        (reader, "Consumer", client(broker.consumer)),
        (transaction, "Producer", client(broker.producer)),
        (transaction, "BoundedCaller", DirectCaller),
        (transaction, "ctypes", _NoCtypes),
        (transaction, "missing_topics", lambda *_: frozenset()),
        (flow, "MAX_UNFINISHED", unfinished),
        (flow, "MAX_SPAN", span),
    ]
    patches = [patch.object(module, name, value) for module, name, value in replaced]
    logger = logging.getLogger("fairlane")
    before = logger.level, logger.propagate
    logger.setLevel(logging.CRITICAL + 1 if log is None else logging.INFO)
    logger.propagate = False
    handler = _Telling(world, log) if log is not None else logging.NullHandler()
    logger.addHandler(handler)
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in reversed(patches):
            each.stop()
        logger.removeHandler(handler)
        level, logger.propagate = before
        logger.setLevel(level)


class _Telling(logging.Handler):
    def __init__(self, world: World, log: Log) -> None:
        super().__init__()
        self._world = world
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if self._world.process.alive:
            self._log(f"{self._world.now:9.3f} {self._world.process.name:8} {record.getMessage()}")


class _NoCtypes:
    """What never returns here is in memory: nothing waits for its end."""

    class pythonapi:  # noqa: N801 - the name that it stands for
        @staticmethod
        def Py_IncRef(_: object) -> None:  # noqa: N802
            """Nothing."""

    @staticmethod
    def py_object(given: object) -> object:
        return given
