"""The books of a world: what became of every record, looked at after every transaction that is committed.

Invariants, each of them after every commit:

- *none lost, one outcome*: the records of an origin that are unsettled in lanes and tiers, and its terminal events, are
  one together. A commit that calls a record finished without an outcome, an outcome whose record stays unfinished, and
  offsets that go back below what was settled, are all told by this at the commit that does it.
- *the map*: what is unfinished in it is within what a map is sure to hold.
- *letters*: as many dead letters as terminal events that need one.

Of what runs: *never early* by the clock of its worker, and *no starvation* beyond the scheduler's bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from fairlane.consumer.delivery import Partition
from fairlane.testing.memory import Commit
from fairlane.testing.memory.log import Stored
from fairlane.topics import events
from fairlane.topics.events import TERMINAL
from fairlane.topics.names import QueueNames
from fairlane.topics.offset_map import decode
from simulation.lanes import Lanes


class Violation(Exception):
    """An invariant does not hold.

    Attributes:
        kind: which.
    """

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(f"{kind}: {words}")
        self.kind = kind


@dataclass
class _Book:
    """One partition of a lane or tier."""

    unsettled: dict[int, str] = field(default_factory=dict)
    settled: dict[int, str] = field(default_factory=dict)


class Accounts:
    """All records of one queue.

    Args:
        names: of its topics.
        read: the topics that its workers read.
        unfinished: how many a map is sure to hold.
        span: over which span it holds any number.
    """

    def __init__(self, names: QueueNames, read: frozenset[str], *, unfinished: int, span: int) -> None:
        self._names = names
        self._read = read
        self._unfinished = unfinished
        self._span = span
        self._books: dict[Partition, _Book] = {}
        self._live: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        """Terminal events by state and reason."""
        self.violation: Violation | None = None
        self.commits = 0
        self.moved = 0
        """Records of running attempts that were moved aside."""
        self._digest = sha256()

    def sent(self, topic: str, partition: int, offset: int) -> None:
        """A new record is in a lane or a tier."""
        self._arrived((topic, partition), offset, f"{topic}/{partition}/{offset}")

    def _arrived(self, partition: Partition, offset: int, origin: str) -> None:
        self._books.setdefault(partition, _Book()).unsettled[offset] = origin
        self._live[origin] += 1

    @property
    def digest(self) -> str:
        """Of all commits in their order: two runs of one seed have the same."""
        return self._digest.hexdigest()[:16]

    @property
    def open(self) -> int:
        """Origins without a terminal event."""
        return sum(1 for origin in self._live if not self._ended[origin])

    @property
    def origins(self) -> int:
        """All that were sent."""
        return len(self._live)

    def violated(self, kind: str, words: str) -> None:
        """Note the first thing that does not hold; the world ends with it."""
        if self.violation is None:
            self.violation = Violation(kind, words)

    def committed(self, commit: Commit) -> None:
        """A transaction was committed."""
        self.commits += 1
        self._digest.update(repr((commit.transactional_id, commit.offsets)).encode())
        touched: set[str] = set()
        letters = letters_due = 0
        for partition, records in commit.records.items():
            if partition[0] in self._read:
                self._went_on(partition, records, touched)
            elif partition[0] == self._names.dlq:
                letters += len(records)
            elif partition[0] == self._names.status:
                letters_due += self._told(records, touched)
        for partition, known in commit.offsets.get(self._names.group, {}).items():
            self._offset(partition, known.offset, known.metadata, touched)
        if letters != letters_due:
            self.violated("letters", f"{letters} dead letters with {letters_due} events of death or expiry")
        for origin in sorted(touched):
            self._check(origin)

    def _went_on(self, partition: Partition, records: Iterable[Stored], touched: set[str]) -> None:
        """Tasks are in a lane or a tier: on their way, or sent in somebody's transaction."""
        for record in records:
            origin = dict(record.headers).get("fairlane-origin")
            named = origin.decode() if origin is not None else f"{partition[0]}/{partition[1]}/{record.offset}"
            self._arrived(partition, record.offset, named)
            touched.add(named)

    def _told(self, records: Iterable[Stored], touched: set[str]) -> int:
        """Status events were written; how many of them need a letter."""
        letters = 0
        for record in records:
            event = events.decode_status(record.value or b"")
            origin = dict(record.headers).get("fairlane-origin")
            if event is None or origin is None:
                self.violated("status", "an event that cannot be read")
            elif event.state in TERMINAL:
                self._ended[origin.decode()] += 1
                touched.add(origin.decode())
                self.reasons[event.reason or event.state] += 1
                letters += event.state not in ("completed", "cancelled")
        return letters

    def _check(self, origin: str) -> None:
        live, ended = self._live[origin], self._ended[origin]
        if ended > 1:
            self.violated("one outcome", f"{origin} has {ended} terminal events")
        elif live + ended < 1:
            self.violated("none lost", f"{origin} is nowhere, and has no terminal event")
        elif live + ended > 1:
            self.violated("one place", f"{origin} is unsettled in {live} places and has {ended} terminal events")

    def _offset(self, partition: Partition, offset: int, metadata: str, touched: set[str]) -> None:
        known = decode(offset, metadata)
        if known is None:
            self.violated("the map", f"of {partition} cannot be read")
            return
        if len(known.unfinished) > self._unfinished and known.highest_finished - offset > self._span:
            self.violated("the map", f"of {partition} has {len(known.unfinished)} unfinished over too large a span")
        book = self._books.setdefault(partition, _Book())
        for place, origin in [*book.unsettled.items()]:
            if known.finished(place):
                del book.unsettled[place]
                book.settled[place] = origin
                self._live[origin] -= 1
                touched.add(origin)
        for place in [place for place in book.settled if place >= offset and not known.finished(place)]:
            origin = book.settled.pop(place)
            book.unsettled[place] = origin
            self._live[origin] += 1
            touched.add(origin)

    def starts(self, lanes: Lanes, due_ms: int, now_ms: int, what: str) -> None:
        """A worker starts an attempt, by its own clock."""
        if due_ms > now_ms:
            self.violated("never early", f"{what} is due in {due_ms - now_ms} ms")
        if lanes.starved is not None:
            self.violated("no starvation", lanes.starved)
