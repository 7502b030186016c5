"""The log of one partition: records at ascending offsets with gaps, and what of it which reader may see.

Invariant: an offset is used once. The end of a transaction takes an offset of its own and is no record; what a
transaction wrote is seen by a read_committed reader once it is committed, never if it is aborted, and nothing from the
first record of an open transaction on is seen by it, whoever wrote it (KIP-98: the last stable offset).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes | None]]


class Stored(NamedTuple):
    """A record as the log has it; `writer` is the id of its transactional producer, 0 without one."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    writer: int


class PartitionLog:
    """One partition of a topic."""

    def __init__(self) -> None:
        self._records: list[Stored] = []
        self._offsets: list[int] = []
        self._aborted: set[int] = set()
        self._open: dict[int, list[int]] = {}
        """Offsets of each open transaction, by its writer."""
        self.low = 0
        """The first offset that is not deleted."""
        self.end = 0
        """The offset after the last record or marker."""

    @property
    def stable_end(self) -> int:
        """The last stable offset: where the first open transaction begins, else the end."""
        return min((offsets[0] for offsets in self._open.values()), default=self.end)

    def append(
        self, key: bytes | None, value: bytes | None, headers: Headers, timestamp_ms: int, writer: int = 0
    ) -> Stored:
        """Write a record; one with a writer is part of that writer's open transaction."""
        record = Stored(self.end, key, value, headers, timestamp_ms, writer)
        self._records.append(record)
        self._offsets.append(record.offset)
        self.end += 1
        if writer:
            self._open.setdefault(writer, []).append(record.offset)
        return record

    def end_transaction(self, writer: int, *, commit: bool) -> list[Stored]:
        """Write the marker that ends a writer's transaction; returns the records that it decided about."""
        offsets = self._open.pop(writer, [])
        if not commit:
            self._aborted.update(offsets)
        self.end += 1
        return [record for record in map(self.at, offsets) if record is not None]

    def at(self, offset: int) -> Stored | None:
        """The record at an offset; None where there is none (any more)."""
        place = bisect_left(self._offsets, offset)
        return self._records[place] if place < len(self._offsets) and self._offsets[place] == offset else None

    def read(self, position: int, limit: int, *, committed: bool) -> tuple[list[Stored], int]:
        """Records from a position on, at most `limit`, and the position after them."""
        until = self.stable_end if committed else self.end
        found: list[Stored] = []
        for record in self._records[bisect_left(self._offsets, position) :]:
            if record.offset >= until:
                break
            if committed and record.offset in self._aborted:
                continue
            if len(found) == limit:
                return found, record.offset
            found.append(record)
        return found, max(position, until)

    def visible(self) -> list[Stored]:
        """All that a read_committed reader sees."""
        return self.read(self.low, len(self._records), committed=True)[0]

    def delete_before(self, offset: int) -> None:
        """What lies below an offset is gone, as by DeleteRecords or by retention."""
        self.low = max(self.low, min(offset, self.end))
        gone = bisect_left(self._offsets, self.low)
        del self._records[:gone], self._offsets[:gone]

    def compact(self) -> None:
        """Of each key only the newest record stays (and tombstones do), at the offset that it has."""
        until = self.stable_end
        newest = {
            record.key: record.offset
            for record in self._records
            if record.offset < until and record.offset not in self._aborted
        }
        self._records = [
            record for record in self._records if record.offset >= until or newest.get(record.key) == record.offset
        ]
        self._offsets = [record.offset for record in self._records]

    def expire(self, before_ms: int) -> None:
        """Delete from the beginning what is older than a time, as `retention.ms` does."""
        until = self.stable_end
        kept = next((each.offset for each in self._records if each.timestamp_ms >= before_ms), until)
        self.delete_before(min(kept, until))
