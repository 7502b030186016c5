"""The settler's books: a tracker for each assignment, what its offset map says, and what has been committed of it.

Invariant: owned by the settler's thread. An entry lives from the assignment's beginning to its end; an outcome whose
entry is gone belongs to somebody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from fairlane.consumer.assignment import Lease
from fairlane.consumer.delivery import Assigned
from fairlane.consumer.head_of_line import RECORDS, MapHead, map_head
from fairlane.consumer.suspects import leaving
from fairlane.consumer.tracker import PartitionTracker
from fairlane.topics.offset_map import OffsetMap, encode


class Progress(NamedTuple):
    """How far a partition is settled, as the reader is told: totals, so that a late reading errs on the safe side."""

    watermark: int
    finished: int
    """Offsets finished since the assignment began."""


class OffsetToCommit(NamedTuple):
    """What a transaction commits for one partition."""

    assigned: Assigned
    offset: int
    metadata: str


class _Entry:
    __slots__ = ("changed", "end", "finished", "leaves", "losses", "restored", "tracker", "watermark_sent")

    def __init__(self, tracker: PartitionTracker, end: int, restored: OffsetMap | None) -> None:
        self.tracker = tracker
        self.end = end
        self.restored = restored
        self.losses: dict[int, int] = dict(restored.losses) if restored is not None else {}
        self.finished = 0
        self.changed = True
        self.leaves = False
        self.watermark_sent = tracker.watermark

    def snapshot(self) -> OffsetMap:
        """What a commit says now."""
        if self.leaves:
            return self.tracker.snapshot(*leaving(self.restored, self.end, self.tracker.watermark))
        return self.tracker.snapshot(False, self.losses)


class Ledger:
    """All trackers of this process.

    Args:
        head_records: how many finished records the head of a partition holds back before it is told of.

    Attributes:
        heads: the partitions whose head does, as of their newest commit; a new mapping whenever it changes.
    """

    def __init__(self, head_records: int = RECORDS) -> None:
        self._entries: dict[Assigned, _Entry] = {}
        self._head_records = head_records
        self.heads: Mapping[Assigned, MapHead] = MappingProxyType({})

    def open(self, assigned: Assigned, start: int, end: int, restored: OffsetMap | None) -> None:
        """An assignment begins at `start`, with the map that its predecessor committed, if there is one.

        Args:
            assigned: the assignment.
            start: the first offset that is read.
            end: the end of the log now.
            restored: the map.
        """
        self._entries[assigned] = _Entry(PartitionTracker(start, restored), end, restored)

    def drop(self, assigned: Iterable[Assigned]) -> None:
        """Assignments are over, whatever was open in them."""
        for each in assigned:
            self._entries.pop(each, None)
            if each in self.heads:
                self._note_head(each, None)

    def drop_all(self) -> None:
        """Everything is given up."""
        self._entries.clear()
        self.heads = MappingProxyType({})

    def __contains__(self, assigned: Assigned) -> bool:
        return assigned in self._entries

    def delivered(self, assigned: Assigned, offsets: list[int]) -> None:
        """Records were read, in ascending order."""
        entry = self._entries.get(assigned)
        if entry is not None:
            entry.tracker.delivered(offsets)

    def reached_end(self, assigned: Assigned, end: int) -> None:
        """The partition was read to its end."""
        entry = self._entries.get(assigned)
        if entry is not None:
            before = entry.tracker.watermark
            entry.tracker.reached_end(end)
            entry.changed |= entry.tracker.watermark != before

    def finished(self, assigned: Assigned, offsets: Sequence[int]) -> None:
        """The outcomes of records are about to be settled."""
        entry = self._entries[assigned]
        entry.tracker.finished_many(offsets)
        entry.finished += len(offsets)
        if entry.losses:
            for offset in offsets:
                entry.losses.pop(offset, None)
        entry.changed = True

    def record_losses(self, assigned: Assigned, losses: Mapping[int, int]) -> bool:
        """Note how many workers died on these offsets; False if the assignment is over."""
        entry = self._entries.get(assigned)
        if entry is None:
            return False
        entry.losses.update(losses)
        entry.changed = True
        return True

    def leave(self, assigned: Iterable[Assigned]) -> None:
        """The next commit of these is their owner's last, who leaves in good order."""
        for each in assigned:
            entry = self._entries.get(each)
            if entry is not None:
                entry.leaves = entry.changed = True

    @property
    def has_news(self) -> bool:
        """Whether a commit would say anything new."""
        return any(entry.changed for entry in self._entries.values())

    def to_commit(self, lease: Lease, apart: Iterable[tuple[Assigned, int]] = ()) -> list[OffsetToCommit]:
        """What is new of every assignment that the lease holds.

        Args:
            lease: the one that the transaction runs under.
            apart: offsets that are finished but whose records go into a later transaction: still open in this one.
        """
        reopened: dict[Assigned, list[int]] = {}
        for assigned, offset in apart:
            reopened.setdefault(assigned, []).append(offset)
        offsets = []
        for assigned, entry in self._entries.items():
            if entry.changed and lease.holds(assigned):
                snapshot = entry.snapshot()
                span = snapshot.highest_finished - snapshot.watermark
                if span >= self._head_records or (self.heads and assigned in self.heads):
                    self._note_head(assigned, map_head(snapshot, self._head_records))
                if assigned in reopened:
                    snapshot = _with_open(snapshot, reopened[assigned])
                offsets.append(OffsetToCommit(assigned, snapshot.watermark, encode(snapshot)))
        return offsets

    def committed(self, offsets: Iterable[OffsetToCommit], apart: Iterable[tuple[Assigned, int]] = ()) -> None:
        """A transaction with these is in Kafka; of those apart there is more to say."""
        open_still = {assigned for assigned, _ in apart}
        for each in offsets:
            entry = self._entries.get(each.assigned)
            if entry is not None:
                entry.changed = each.assigned in open_still
                entry.watermark_sent = each.offset

    def _note_head(self, assigned: Assigned, held: MapHead | None) -> None:
        others = {each: known for each, known in self.heads.items() if each != assigned}
        self.heads = MappingProxyType(others if held is None else {**others, assigned: held})

    def progress(self) -> Mapping[Assigned, Progress]:
        """How far everything is, for the reader; a new frozen mapping."""
        return MappingProxyType(
            {assigned: Progress(entry.watermark_sent, entry.finished) for assigned, entry in self._entries.items()}
        )


def _with_open(snapshot: OffsetMap, offsets: Iterable[int]) -> OffsetMap:
    """The map with some of its finished offsets open again."""
    unfinished = tuple(sorted({*snapshot.unfinished, *offsets}))
    return OffsetMap(
        watermark=min(snapshot.watermark, unfinished[0]),
        highest_finished=max(snapshot.highest_finished, snapshot.watermark - 1),
        unfinished=tuple(
            offset for offset in unfinished if offset <= max(snapshot.highest_finished, snapshot.watermark - 1)
        ),
        losses=snapshot.losses,
        clean=snapshot.clean,
    )
