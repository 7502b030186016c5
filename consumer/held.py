"""What was read and may not be taken yet: it is kept, or dropped and read again.

Invariant: what is kept of all partitions has a bound in bytes. A partition of which more would be kept is read again
from its first such record, and until that is under way nothing that comes of it is taken: it would be taken twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Message

from fairlane.consumer.delivery import Assigned


class Held:
    """The records that wait in the reader's memory; owned by its thread.

    Args:
        max_bytes: the bound.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[Assigned, tuple[Sequence[Message], int]] = {}
        self._dropped: dict[Assigned, int] = {}
        self.size_bytes = 0

    def __contains__(self, assigned: Assigned) -> bool:
        """Whether anything of the partition is kept."""
        return assigned in self._kept

    def is_dropped(self, assigned: Assigned) -> bool:
        """Whether the partition is to be read again first."""
        return assigned in self._dropped

    def keep(self, assigned: Assigned, messages: Sequence[Message], size_bytes: int) -> bool:
        """Keep records, of which there are some, in order; False where there is no room and they are dropped."""
        assert assigned not in self._kept
        if self.size_bytes + size_bytes > self._max_bytes:
            self._dropped[assigned] = messages[0].offset() or 0
            return False
        self._kept[assigned] = (messages, size_bytes)
        self.size_bytes += size_bytes
        return True

    def take(self, assigned: Assigned) -> Sequence[Message]:
        """What is kept of a partition, which is not kept any more."""
        messages, size_bytes = self._kept.pop(assigned, ((), 0))
        self.size_bytes -= size_bytes
        return messages

    def gone(self, assigned: Assigned) -> None:
        """The partition left."""
        self.take(assigned)
        self._dropped.pop(assigned, None)

    def read_again(self) -> list[tuple[Assigned, int]]:
        """Partitions that are to be read again, and from where; whoever asks does it before the next poll."""
        found = list(self._dropped.items())
        self._dropped.clear()
        return found
