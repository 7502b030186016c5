"""How a worker ends: the steps of a shutdown and the exit code that it comes to.

Invariant: nothing is lost on any path. What ran to its end is settled, what did not start is still in Kafka, what was
cut off is handed back at no attempt's cost; a second signal skips the waiting, not the safety.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Phase(Enum):
    """Where a worker is in its life."""

    RUNNING = "running"
    DRAINING = "draining: nothing new starts, what runs may end"
    CUTTING = "cutting: the grace is over, what runs is taken from its handlers"
    SETTLING = "settling: what ended is written, partitions are given back"
    ENDED = "ended"


class Event(Enum):
    """What happens to a worker that matters to its end."""

    STOP = "it was asked to stop"
    QUIET = "nothing runs any more"
    GRACE_OVER = "something still runs when the grace ends"
    SETTLED = "everything is settled and every partition given back"
    UNSETTLED = "not everything could be settled in time; it will be run again"
    CRASHED = "a thread of the worker failed"


_TABLE: Final = {
    (Phase.RUNNING, Event.STOP): Phase.DRAINING,
    (Phase.RUNNING, Event.CRASHED): Phase.ENDED,
    (Phase.DRAINING, Event.STOP): Phase.DRAINING,
    (Phase.DRAINING, Event.QUIET): Phase.SETTLING,
    (Phase.DRAINING, Event.GRACE_OVER): Phase.CUTTING,
    (Phase.DRAINING, Event.CRASHED): Phase.ENDED,
    (Phase.CUTTING, Event.STOP): Phase.CUTTING,
    (Phase.CUTTING, Event.QUIET): Phase.SETTLING,
    (Phase.CUTTING, Event.GRACE_OVER): Phase.SETTLING,
    (Phase.CUTTING, Event.CRASHED): Phase.ENDED,
    (Phase.SETTLING, Event.STOP): Phase.SETTLING,
    (Phase.SETTLING, Event.SETTLED): Phase.ENDED,
    (Phase.SETTLING, Event.UNSETTLED): Phase.ENDED,
    (Phase.SETTLING, Event.CRASHED): Phase.ENDED,
}

DRAINED: Final = 0
FAILED: Final = 1
GRACE_EXCEEDED: Final = 6


class Shutdown:
    """The state of a shutdown."""

    def __init__(self) -> None:
        self.phase = Phase.RUNNING
        self._cut = False
        self._failed = False

    def on(self, event: Event) -> Phase:
        """What follows the event.

        Raises:
            ValueError: it cannot happen in this phase.
        """
        follows = _TABLE.get((self.phase, event))
        if follows is None:
            raise ValueError(f"{event} in {self.phase}")
        self._cut |= event is Event.GRACE_OVER
        self._failed |= event in (Event.CRASHED, Event.UNSETTLED)
        self.phase = follows
        return follows

    @property
    def exit_code(self) -> int:
        """What the process ends with, by the contract of the CLI."""
        if self._failed:
            return FAILED
        return GRACE_EXCEEDED if self._cut else DRAINED
