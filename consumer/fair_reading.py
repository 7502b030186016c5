"""Fair reading: which lanes are read ahead of their share while others have more to give.

Kafka gives what it has of every partition alike. Where reading is what limits a worker, its tasks end as fast as they
are read and no buffer ever fills, so lanes would get equal shares whatever their weights are. So reading is a queue of
its own, by virtual time (start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996): a lane's is the records that
were read of it, by its weight. Light lanes wait for heavier ones; those have their full buffers to wait for.

Invariant: a lane is ahead only of heavier ones that have a backlog of unread records, have room for them and do give
them. One that gives nothing while polls are in vain is waited for no longer, until it gives again: so others never
stand still for long, and a lane whose broker is silent holds back nobody.
"""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping
from typing import Final, Generic, TypeVar

P = TypeVar("P", bound=Hashable)

BACKLOG: Final = 100
"""More than come one by one. A pause throws away what was fetched: not for a task of p5 now and then."""
EMPTY_POLLS: Final = 4
"""After so many in a row the others have nothing to give now: each takes 5 ms."""


class _Lane(Generic[P]):
    __slots__ = ("gave", "is_ahead", "is_silent", "since_end", "unread", "virtual", "weight")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.virtual = 0.0
        """Records that were read of it, by its weight."""
        self.since_end: dict[P, int] = {}
        """Records of each partition since it was last read to its end."""
        self.unread: set[P] = set()
        """Partitions that have a backlog."""
        self.is_ahead = False
        self.gave = False
        """Whether anything came of it since polls were last in vain."""
        self.is_silent = False
        """Whether nothing came of it, although nobody else took the time."""


class FairReading(Generic[P]):
    """Decides which lanes are ahead.

    Args:
        weights: of the lanes.
        window: how far a lane may be ahead, in records of all lanes together.
        backlog: of a partition that gave so many records without its end there are more to wait for.
    """

    def __init__(self, weights: Mapping[str, int], window: int, backlog: int = BACKLOG) -> None:
        self._lanes: dict[str, _Lane[P]] = {}
        self._records = window
        self._window = 0.0
        self._backlog = backlog
        self._empty_polls = 0
        self.weigh(weights)

    def weigh(self, weights: Mapping[str, int]) -> None:
        """Let the lanes have other weights from now on; what was read counts as before."""
        before = self._lanes
        # The heaviest first: `ahead` compares each with those before it.
        self._lanes = {
            lane: before.get(lane) or _Lane(weight)
            for lane, weight in sorted(weights.items(), key=lambda each: -each[1])
        }
        for name, lane in self._lanes.items():
            lane.weight = weights[name]
        self._window = self._records / max(1, sum(weights.values()))

    def came(self, lane: str, partition: P, records: int) -> None:
        """Records of a partition were read; there may be more behind them."""
        found = self._lanes.get(lane)
        if found is not None:
            found.virtual += records / found.weight
            since_end = found.since_end[partition] = found.since_end.get(partition, 0) + records
            if since_end >= self._backlog:
                found.unread.add(partition)
            found.gave, found.is_silent = True, False
        self._empty_polls = 0

    def ended(self, lane: str, partition: P) -> None:
        """A partition was read to its end, or left."""
        if lane in self._lanes:
            self._lanes[lane].unread.discard(partition)
            self._lanes[lane].since_end.pop(partition, None)

    def nothing_came(self) -> None:
        """A poll was in vain."""
        self._empty_polls += 1
        if self._empty_polls >= EMPTY_POLLS:
            self._empty_polls = 0
            for lane in self._lanes.values():
                lane.gave, lane.is_silent = False, not lane.gave

    def ahead(self, full: Container[str]) -> frozenset[str]:
        """The lanes that wait for others now; with hysteresis, since a pause throws away what was fetched.

        Args:
            full: lanes that have no room: they wait for nobody to read them, and nobody waits for them.
        """
        giving = {
            name: lane.virtual
            for name, lane in self._lanes.items()
            if lane.unread and not lane.is_silent and name not in full
        }
        least = min(giving.values(), default=0.0)
        heavier: list[float] = []
        ahead = []
        for name, lane in self._lanes.items():
            # What a lane did not want to have read is not owed to it, but for what one pause may have cost it.
            lane.virtual = max(lane.virtual, max(heavier, default=least) - self._window)
            allowed = self._window / 2 if lane.is_ahead else self._window
            lane.is_ahead = lane.virtual - min(heavier, default=lane.virtual) > allowed
            if lane.is_ahead:
                ahead.append(name)
            if name in giving:
                heavier.append(lane.virtual)
        return frozenset(ahead)
