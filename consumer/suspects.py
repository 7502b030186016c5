"""After a worker died: who killed it, and how to run its tasks without dying of them for ever.

Invariant: while a worker runs a suspect, a commit already says that one more worker may have died of it; so a task that
kills whoever runs it is dead (`worker_lost`) after `max_losses` losses, whoever runs it, and nothing has to survive the
crash but the commit.

An owner of a partition commits clean=False before it runs anything from it, and clean=True when it leaves in order. A
map that says clean=False when the next owner reads it was therefore left behind by a death, and every record below the
then end of the log that is not finished is a *suspect*, up to MAX_SPAN beyond the highest finished one (not beyond the
watermark: one task of many hours may hold that far behind). A suspect goes

    waiting -> recording -> armed -> finished        or at once to Dead, when its losses would exceed `max_losses`

waiting for its turn, recording until a commit holds its raised loss count, armed from when it may run. Of each
partition at most `max_open` are recording or armed. One that has been part of two deaths, or whose next loss would be
its last before Dead, is *grave* and runs alone: while it is open no other suspect of its partition is, nor another
grave one of this worker; so an innocent neighbour of a killer is not buried with it. Losses of settled records leave
the map. A death that no task caused (a lost machine) counts like any other.

How the shell uses it (one gate per worker; `partition` is any hashable key):

    taken_over(partition, map, end)     at assignment, before the first record; do what it returns
    is_suspect(partition, offset)       per delivered record: if so give it to `admit`, do not run it
    admit(partition, offset, item)      do what it returns
    losses(partition)                   into every map that is committed
    committed(partition, map)           after a commit of it that succeeded; do what it returns
    finished(partition, offset)         see there for when; do what it returns
    released(partition)                 when it is revoked; do what it returns
    leaving(map, end, watermark)        what the last commit of a partition says when it is left in order

and does: Record -> commit the partition soon, outcomes or not; Run -> hand the items on; Dead -> settle as worker_lost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

from fairlane.topics.errors import UsageError
from fairlane.topics.offset_map import MAX_LOSSES, MAX_SPAN, NO_LOSSES, OffsetMap

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

GRAVE_LOSSES: Final = 2
"""A suspect with so many losses on record runs alone."""


@dataclass(frozen=True, slots=True)
class Record(Generic[K]):
    """Commit the partition soon, even without outcomes: what waits for it runs only after that."""

    partition: K


@dataclass(frozen=True, slots=True)
class Run(Generic[K, T]):
    """Hand these items on to be run, in this order."""

    partition: K
    items: tuple[T, ...]


@dataclass(frozen=True, slots=True)
class Dead(Generic[K, T]):
    """Settle the item as `worker_lost`: so many workers died on it."""

    partition: K
    item: T
    losses: int


@dataclass(slots=True)
class _Suspect(Generic[T]):
    item: T
    armed: bool = False


Command: TypeAlias = Record[K] | Run[K, T] | Dead[K, T]


class _Partition(Generic[T]):
    __slots__ = ("alone", "announced", "grave", "limit", "losses", "opened", "unannounced", "waiting")

    def __init__(self, limit: int, losses: dict[int, int], announced: bool) -> None:
        self.limit = limit
        """Offsets below it are suspects."""
        self.losses = losses
        self.announced = announced
        """Whether a commit says that this owner is at work."""
        self.unannounced: OrderedDict[int, T] = OrderedDict()
        self.waiting: OrderedDict[int, _Suspect[T]] = OrderedDict()
        self.grave: OrderedDict[int, _Suspect[T]] = OrderedDict()
        """Those of the waiting ones that run alone."""
        self.opened: dict[int, _Suspect[T]] = {}
        self.alone = False
        """Whether the one that is open is grave."""

    def open(self, held: OrderedDict[int, _Suspect[T]]) -> None:
        """Raise the loss count of the one that waits longest; it is recording from now on."""
        offset, suspect = held.popitem(last=False)
        self.losses[offset] = self.losses.get(offset, 0) + 1
        self.opened[offset] = suspect


def _suspects_end(restored: OffsetMap | None, end: int) -> int:
    """The offset below which all that is not finished is suspect; 0 where nothing is."""
    if restored is None or restored.clean:
        return 0
    return min(end, restored.highest_finished + 1 + MAX_SPAN)


def leaving(restored: OffsetMap | None, end: int, watermark: int) -> tuple[bool, Mapping[int, int]]:
    """What the last commit says of a partition that is left in order: whether clean, and the losses.

    As long as suspects are not settled the partition is left as it was found, unclean and with the losses that the
    owner before had recorded: else suspicion would end with whoever did not get round to it, and a killer could go on
    from worker to worker. Losses recorded since are taken back: this worker did not die of them. With a tracker:
    `tracker.snapshot(*leaving(restored, end, tracker.watermark))`.

    Args:
        restored: the map that the partition was taken over with.
        end: the log's end at that time.
        watermark: the watermark now.
    """
    losses = NO_LOSSES if restored is None else restored.losses
    return watermark >= _suspects_end(restored, end), losses


class SuspectGate(Generic[K, T]):
    """Holds the suspects of all partitions of a worker.

    Args:
        max_losses: a record that would have more losses than this is dead.
        max_open: how many suspects of a partition may be recording or armed at once; at most MAX_LOSSES.

    Raises:
        UsageError: a number is out of its range.
    """

    __slots__ = ("_max_losses", "_max_open", "_partitions", "_turn")

    def __init__(self, max_losses: int = 3, max_open: int = 16) -> None:
        if max_losses < 1:
            raise UsageError(f"max_losses is {max_losses}", "1 gives a task that lost its worker one more")
        if not 1 <= max_open <= MAX_LOSSES:
            raise UsageError(
                f"max_open is {max_open}", f"It is a number from 1 to {MAX_LOSSES}, which a commit can hold"
            )
        self._max_losses = max_losses
        self._max_open = max_open
        self._partitions: dict[K, _Partition[T]] = {}
        self._turn: OrderedDict[K, None] = OrderedDict()
        """Partitions with grave suspects to run or running; only the first has its turn."""

    def taken_over(self, partition: K, restored: OffsetMap | None, end: int) -> list[Command[K, T]]:
        """The partition was assigned.

        Args:
            partition: its key.
            restored: the map of the commit that reading starts from; None without one.
            end: the log's end at that time, of records that the owner before can have seen.
        """
        losses = {} if restored is None else dict(restored.losses)
        announced = restored is not None and not restored.clean
        self._partitions[partition] = _Partition(_suspects_end(restored, end), losses, announced)
        return [] if announced else [Record(partition)]

    def is_suspect(self, partition: K, offset: int) -> bool:
        """Whether the record must not run before `admit` says so.

        Besides suspects proper these are all records of a partition until a commit says clean=False of it.
        """
        state = self._partitions.get(partition)
        return state is not None and (offset < state.limit or not state.announced)

    def admit(self, partition: K, offset: int, item: T, carried: int = 0) -> list[Command[K, T]]:
        """Take in a record that is due to run.

        Args:
            partition: where it was read.
            offset: its offset.
            item: what Run and Dead give back.
            carried: losses that the record itself carries (`fairlane-worker-lost`).
        """
        state = self._partitions[partition]
        if offset >= state.limit:
            if state.announced:
                return [Run(partition, (item,))]
            state.unannounced[offset] = item
            return []
        losses = carried + state.losses.get(offset, 0)
        if losses + 1 > self._max_losses:
            return [Dead(partition, item, losses + 1)]
        suspect = _Suspect(item)
        if losses >= GRAVE_LOSSES or losses + 1 == self._max_losses:
            state.grave[offset] = suspect
            self._turn.setdefault(partition)
        else:
            state.waiting[offset] = suspect
        return self._open(partition)

    def losses(self, partition: K) -> Mapping[int, int]:
        """Offset -> how many workers died on it, for the next commit of the partition; do not keep it."""
        state = self._partitions.get(partition)
        return NO_LOSSES if state is None else state.losses

    def committed(self, partition: K, known: OffsetMap) -> list[Command[K, T]]:
        """A commit of the partition succeeded; only `losses` and `clean` of its map are looked at."""
        state = self._partitions.get(partition)
        if state is None or known.clean:
            return []
        items: list[T] = []
        if not state.announced:
            state.announced = True
            items += state.unannounced.values()
            state.unannounced.clear()
        for offset, suspect in state.opened.items():
            if not suspect.armed and known.losses.get(offset) == state.losses[offset]:
                suspect.armed = True
                items.append(suspect.item)
        return [Run(partition, tuple(items))] if items else []

    def finished(self, partition: K, offset: int) -> list[Command[K, T]]:
        """The record is settled, whether it ran or not; harmless for a record that is no suspect.

        Call it when the settlement is committed, or is bound to be in no later transaction than any loss that is
        recorded from now on. Were the next suspect recorded first, and the worker died of that one, the next owner
        would count the death for both.
        """
        state = self._partitions.get(partition)
        if state is None:
            return []
        state.losses.pop(offset, None)
        if not state.announced:
            state.unannounced.pop(offset, None)
        if offset >= state.limit:
            return []
        if state.opened.pop(offset, None) is not None:
            state.alone = False
        elif state.waiting.pop(offset, None) is None and state.grave.pop(offset, None) is None:
            return []
        return self._open(partition)

    def released(self, partition: K) -> list[Command[K, T]]:
        """The partition is no longer this worker's; what waited in it is forgotten."""
        if self._partitions.pop(partition, None) is None or partition not in self._turn:
            return []
        return self._leave_turn(partition)

    def _open(self, partition: K) -> list[Command[K, T]]:
        """Start recording what may now be open."""
        state = self._partitions[partition]
        commands: list[Command[K, T]] = []
        if partition in self._turn:
            if not state.grave and not state.alone:
                commands = self._leave_turn(partition)
            elif next(iter(self._turn)) == partition:
                if state.opened:
                    return []
                state.alone = True
                state.open(state.grave)
                return [Record(partition)]
        before = len(state.opened)
        while state.waiting and len(state.opened) < self._max_open:
            state.open(state.waiting)
        return [*commands, Record(partition)] if len(state.opened) > before else commands

    def _leave_turn(self, partition: K) -> list[Command[K, T]]:
        had_turn = next(iter(self._turn)) == partition
        del self._turn[partition]
        return self._open(next(iter(self._turn))) if had_turn and self._turn else []
