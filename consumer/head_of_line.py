"""Which tasks hold back their partitions: the detector.

Invariant: no I/O and no clock. A verdict follows from what a commit says of the partition and from how long that has
been so.

The head of a partition is its lowest unfinished offset. What is finished behind it stays in the offset map, the
committed offset stays where the head is, and beyond a span of MAX_SPAN the partition may have only MAX_UNFINISHED
unfinished records. Two conditions tell one slow task from an outage, as in uForwarder's HeadBlockingDetector (load
above 0.9, and 98 % acknowledged):

- the head *holds back* as many finished records as `records`, 0.9 of MAX_SPAN by default, and has done so for a while;
- of all that was delivered from the head to the highest finished offset, 98 % are finished. With fewer it is an
  *outage* (what the handlers call hangs, or a limit is too low): whatever is moved away, the next one is as slow, so
  nothing is.

Records beyond the highest finished offset count for neither: they have only been read ahead.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, NamedTuple, TypeVar

from fairlane.topics.offset_map import MAX_SPAN, OffsetMap

K = TypeVar("K", bound=Hashable)

RECORDS: Final = MAX_SPAN * 9 // 10
"""So many finished records a task may hold back, unless a setting says otherwise."""
UNFINISHED_PERCENT: Final = 2
"""More than this share unfinished is an outage."""
LISTED_MAX: Final = 100
"""So many offsets of a partition are looked at at once."""
TELL_FIRST_MS: Final = 60_000
TELL_MAX_MS: Final = 3_600_000


class Verdict(Enum):
    """What to make of a partition that is held back."""

    HOLDING_BACK = "one task, or a few, hold back what is finished behind them"
    OUTAGE = "too many are unfinished for one task to be the cause"


class MapHead(NamedTuple):
    """What a commit says of a partition whose head holds back more than it may."""

    offsets: tuple[int, ...]
    """The unfinished ones that do, ascending, the head first."""
    finished: int
    """Offsets behind the head that are finished, those without a record included."""
    unfinished: int
    """Offsets that are not, from the head to the highest finished one."""

    @property
    def verdict(self) -> Verdict:
        """One slow task, or an outage; one alone is none, however few records it holds back."""
        most = max(1, (self.finished + self.unfinished) * UNFINISHED_PERCENT // 100)
        return Verdict.OUTAGE if self.unfinished > most else Verdict.HOLDING_BACK


def map_head(known: OffsetMap, records: int) -> MapHead | None:
    """What the map of a commit says of its head; None where that holds back fewer finished records than `records`."""
    unfinished = len(known.unfinished)
    finished = known.highest_finished + 1 - known.watermark - unfinished
    if not unfinished or finished < records:
        return None
    behind = bisect_right(known.unfinished, known.highest_finished - records)
    return MapHead(known.unfinished[: min(behind, LISTED_MAX)], finished, unfinished)


@dataclass(frozen=True, slots=True)
class Head(Generic[K]):
    """A partition that has been held back for longer than is fine.

    Attributes:
        partition: which.
        offsets: those that hold it back, ascending, the head first.
        since_ms: when the head was first seen to do so.
        finished: as in `MapHead`.
        unfinished: as in `MapHead`.
        verdict: what to make of it.
        tell: whether it is time to say so: once, and then with a back-off.
    """

    partition: K
    offsets: tuple[int, ...]
    since_ms: int
    finished: int
    unfinished: int
    verdict: Verdict
    tell: bool


class _Partition:
    __slots__ = ("since_ms", "tell_ms", "told", "told_ms", "wait_ms")

    def __init__(self) -> None:
        self.since_ms: dict[int, int] = {}
        self.told: int | Verdict | None = None
        self.told_ms = self.tell_ms = self.wait_ms = 0


class HeadsOfLine(Generic[K]):
    """Looks at all partitions of a worker, again and again.

    Args:
        patience_ms: how long an offset is seen to hold back before it counts.
    """

    def __init__(self, patience_ms: int) -> None:
        self._patience_ms = patience_ms
        self._partitions: dict[K, _Partition] = {}

    def look(self, held: Mapping[K, MapHead], now_ms: int) -> list[Head[K]]:
        """The partitions that are held back now.

        Args:
            held: of each partition whose head holds back more than it may.
            now_ms: not before that of the look before.
        """
        for gone in self._partitions.keys() - held.keys():
            del self._partitions[gone]
        heads = []
        for partition, each in held.items():
            state = self._partitions.setdefault(partition, _Partition())
            state.since_ms = {offset: state.since_ms.get(offset, now_ms) for offset in each.offsets}
            patient = tuple(o for o, since_ms in state.since_ms.items() if now_ms - since_ms >= self._patience_ms)
            if patient and patient[0] == each.offsets[0]:
                since_ms, verdict = state.since_ms[patient[0]], each.verdict
                tell = _tell(state, verdict if verdict is Verdict.OUTAGE else patient[0], now_ms)
                heads.append(Head(partition, patient, since_ms, each.finished, each.unfinished, verdict, tell))
        return heads


def _tell(state: _Partition, what: int | Verdict, now_ms: int) -> bool:
    """Whether to speak of it now: of the same ever more rarely, of something new at most once a minute."""
    if what != state.told:
        if state.told is not None and now_ms - state.told_ms < TELL_FIRST_MS:
            return False
        state.wait_ms = TELL_FIRST_MS
    elif now_ms < state.tell_ms:
        return False
    else:
        state.wait_ms = min(2 * state.wait_ms, TELL_MAX_MS)
    state.told, state.told_ms, state.tell_ms = what, now_ms, now_ms + state.wait_ms
    return True
