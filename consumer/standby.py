"""Tasks that may not run for now, since operators have paused their type, or parked them: they wait beside their lanes.

Invariant: in the order in which they came, of each lane. Up to the bounds nobody waits for them: they are `free`, as if
they had been taken from their lane's buffer. What is beyond is `full`: it fills that buffer, so that the partitions of
its lane are read no further, as of a worker that holds as many delayed tasks as it may.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from fairlane.consumer.delivery import Delivery


class Standby:
    """Holds them.

    Args:
        records_max: so many are free.
        bytes_max: and as long as they have fewer bytes together.
    """

    def __init__(self, records_max: int, bytes_max: int) -> None:
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._free: deque[Delivery] = deque()
        self._free_bytes = 0
        self._full: deque[Delivery] = deque()
        self.full_bytes = 0
        """The size of those beyond the bounds."""

    def hold(self, delivery: Delivery) -> bool:
        """Let a task wait; whether it is free."""
        # Behind one that is not free none is: there is one order.
        if not self._full and self._has_room:
            self._free.append(delivery)
            self._free_bytes += delivery.size_bytes
            return True
        self._full.append(delivery)
        self.full_bytes += delivery.size_bytes
        return False

    def set_free(self) -> list[Delivery]:
        """Free those for which there is room now; returns them."""
        freed: list[Delivery] = []
        while self._full and self._has_room:
            delivery = self._full.popleft()
            self.full_bytes -= delivery.size_bytes
            self._free.append(delivery)
            self._free_bytes += delivery.size_bytes
            freed.append(delivery)
        return freed

    def take_out(self, goes: Callable[[Delivery], bool]) -> tuple[list[Delivery], list[Delivery]]:
        """Take out those for which `goes` holds, in order: those that were free, and the others."""
        free, self._free = _sifted(self._free, goes)
        full, self._full = _sifted(self._full, goes)
        self._free_bytes -= sum(each.size_bytes for each in free)
        self.full_bytes -= sum(each.size_bytes for each in full)
        return free, full

    @property
    def _has_room(self) -> bool:
        return len(self._free) < self._records_max and self._free_bytes < self._bytes_max

    def __iter__(self) -> Iterator[Delivery]:
        yield from self._free
        yield from self._full

    def __len__(self) -> int:
        return len(self._free) + len(self._full)


def _sifted(held: deque[Delivery], goes: Callable[[Delivery], bool]) -> tuple[list[Delivery], deque[Delivery]]:
    gone: list[Delivery] = []
    kept: deque[Delivery] = deque()
    for each in held:
        (gone if goes(each) else kept).append(each)
    return gone, kept
