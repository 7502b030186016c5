"""The owner of one partition of `<queue>.events`: a state machine that is fed events and time, and says what to write.

Invariant: no I/O and no clock. What it changes is staged as one turn (states, tasks, the offset up to which events were
fed) and nothing more is fed before that turn is in Kafka, whole, or the owner is dropped with all that it knows: so its
memory never says more than the changelog, but for the one turn that is on its way. A turn that only a timer caused
sends the same offset again, so that Kafka refuses the one of an owner that is none any more.

An owner is restored from the changelog of its partition before it is fed anything. Events that came meanwhile wait, in
order. What its machines do is a function of the events and of the moments at which they are asked.

Owning by partition, a changelog and offsets in one transaction are as in Kafka Streams (KIP-129, KIP-447).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from fairlane.topics.task import Task

EVENTS_MAX: Final = 500
"""So many events are fed in one turn."""
TASKS_MAX: Final = 1_000
"""So many tasks are made in one turn, about: a transaction stays small however much is due at once."""

States = dict[str, bytes | None]
"""By entity, what is written of it; None is that there is nothing left to know."""


class Changes:
    """What machines want to be written; they add to it.

    Attributes:
        states: the newest of each entity of the machine that is asked.
        tasks: to enqueue.
        notes: for the log.
    """

    __slots__ = ("notes", "states", "tasks")

    def __init__(self) -> None:
        self.states: States = {}
        self.tasks: list[Task] = []
        self.notes: list[str] = []

    @property
    def room(self) -> int:
        """How many tasks the turn still takes."""
        return max(0, TASKS_MAX - len(self.tasks))


class Machine(Protocol):
    """What one kind of entity does; one machine for all of them in a partition.

    Attributes:
        kind: what the keys of its entities begin with.
    """

    kind: str

    def restore(self, entity: str, value: bytes | None) -> None:
        """A record of the changelog, in order; None takes the entity back."""

    def feed(self, entity: str, value: bytes, now_ms: int, changes: Changes) -> None:
        """An event. Whatever it says, it never raises."""

    def due(self, now_ms: int, changes: Changes) -> None:
        """Do what is due by now, as far as the turn has room."""

    @property
    def next_due_ms(self) -> int | None:
        """When there is something to do without an event, Unix ms; None is never."""

    def __len__(self) -> int:
        """How many entities are open."""


class Turn(NamedTuple):
    """What one transaction writes for an owner.

    Attributes:
        number: counts the turns of the owner.
        offset: up to which events were fed: what is committed.
        states: by key.
        tasks: to enqueue.
        notes: for the log, once it is in Kafka.
    """

    number: int
    offset: int
    states: tuple[tuple[bytes, bytes | None], ...]
    tasks: tuple[Task, ...]
    notes: tuple[str, ...]


class Event(NamedTuple):
    """A record of the partition."""

    offset: int
    key: bytes
    value: bytes


class Owner:
    """Owns the entities of one partition.

    Args:
        machines: one of each kind.
        offset: where the events begin that its predecessor had not fed.

    Attributes:
        unknown: kinds of events that nobody here knows, as a newer fairlane writes them.
    """

    def __init__(self, machines: Iterable[Machine], offset: int) -> None:
        self._machines = {machine.kind: machine for machine in machines}
        self._offset = self._committed = offset
        self._events: deque[Event] = deque()
        self._restored = False
        self._turn = 0
        self._in_flight = False
        self.unknown: set[str] = set()

    def restore(self, key: bytes, value: bytes | None) -> None:
        """The next record of the changelog."""
        kind, entity = split(key)
        machine = self._machines.get(kind)
        # The state of another kind is another release's: it stays in the changelog for who knows it.
        if machine is not None:
            machine.restore(entity, value)

    def begin(self) -> None:
        """The changelog was read to its end."""
        self._restored = True

    @property
    def begun(self) -> bool:
        """Whether it was restored."""
        return self._restored

    @property
    def waiting(self) -> int:
        """Events that came and were not fed."""
        return len(self._events)

    @property
    def entities(self) -> int:
        """What is open."""
        return sum(map(len, self._machines.values()))

    def came(self, event: Event) -> None:
        """The next event."""
        self._events.append(event)

    def reached_end(self, end: int) -> None:
        """There is nothing before this offset that did not come."""
        # What is no event (a tombstone, a marker of a transaction) is passed with the next one, or here.
        self._events.append(Event(end - 1, b"", b""))

    def stage(self, now_ms: int) -> Turn | None:
        """What is to be written now; None if nothing is, or the last turn is not in Kafka yet."""
        if not self._restored or self._in_flight:
            return None
        changes, states = Changes(), dict[bytes, bytes | None]()
        for _ in range(min(len(self._events), EVENTS_MAX)):
            if not changes.room:
                break
            self._feed(self._events.popleft(), now_ms, changes, states)
        for machine in self._machines.values():
            machine.due(now_ms, changes)
            _take(machine, changes, states)
        if not states and not changes.tasks and self._offset == self._committed:
            return None
        self._turn += 1
        self._in_flight = True
        return Turn(self._turn, self._offset, tuple(states.items()), tuple(changes.tasks), tuple(changes.notes))

    def _feed(self, event: Event, now_ms: int, changes: Changes, states: dict[bytes, bytes | None]) -> None:
        self._offset = max(self._offset, event.offset + 1)
        if not event.key:
            return
        kind, entity = split(event.key)
        machine = self._machines.get(kind)
        if machine is None:
            self.unknown.add(kind[:32])
            return
        machine.feed(entity, event.value, now_ms, changes)
        _take(machine, changes, states)

    def settled(self, number: int) -> None:
        """The turn of this number is in Kafka."""
        if self._in_flight and number == self._turn:
            self._in_flight = False
            self._committed = self._offset

    @property
    def next_due_ms(self) -> int | None:
        """When to stage again, Unix ms; 0 is now, None not before somebody says something."""
        if not self._restored or self._in_flight:
            return None
        if self._events:
            return 0
        dues = (machine.next_due_ms for machine in self._machines.values())
        return min((due for due in dues if due is not None), default=None)


def _take(machine: Machine, changes: Changes, states: dict[bytes, bytes | None]) -> None:
    for entity, value in changes.states.items():
        states[f"{machine.kind}:{entity}".encode()] = value
    changes.states.clear()


def split(key: bytes) -> tuple[str, str]:
    """Kind and entity of a key."""
    kind, _, entity = key.decode("utf-8", "replace").partition(":")
    return kind, entity
