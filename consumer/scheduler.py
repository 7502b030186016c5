"""Which waiting task runs next: lanes by urgency and weight, types by their concurrency.

Invariant: work-conserving (a task runs while any may), FIFO within a lane, and no lane starves.

Each lane has a bucket of as many tokens as its weight; a task that is taken costs its lane one. The most urgent lane
that has both a runnable task and a token is served; when no lane has both and some lane has a runnable task, all
buckets are filled up. A *round* is the time between two fillings.

Starvation bound. Let W be the sum of all weights, w_i the weight of lane i and U_i the sum of the weights of the lanes
that come before it. While lane i has a runnable task, at most (W - w_i) + U_i tasks of other lanes are taken before one
of its own is. For: in what is left of the round the other lanes have at most W - w_i tokens; if lane i has one of its
own too, it is served before the round ends; if it spent them all before, the next round begins, in which only the U_i
tokens of the lanes before it come first. The bound is tight. A round in which all lanes have tasks throughout is W
takes, w_i of them from lane i: so shares are exactly the weights.

A lane that an operator has paused is not served, and counts for none of this while it is: the others share as if there
were no such lane, so the bound holds for them with its weight left out of W and U, and for itself from when it goes on.
It holds no slot of a type either: tasks of it that stepped aside, or were let past already, wait for it to go on.
When weights change, no bucket has more tokens than the new weight of its lane, so the new bound holds at once.

A task whose type is at its concurrency limit steps aside, in order, and does not block those behind it. When a slot of
the type frees, it goes to the most urgent lane that has one of them aside, by the same rule of tokens (buckets of the
type's own, so that the bound holds for the slots of a type too: counted in slots that free, from when the task stepped
aside as the oldest of its lane); that task then goes ahead of its lane, its slot kept for it meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, Generic, TypeVar

from fairlane.topics.errors import InvariantBroken, UsageError

T = TypeVar("T")
E = TypeVar("E")


class _Gate(Generic[T]):
    """What tasks of one kind must pass besides their lane's turn: here, the concurrency of a task type.

    The door for what is to come: a rate limit is a gate whose places come back with time instead of with `finished`, a
    fairness key is one gate per key. Lanes only ask `open`, count `inside`, and put `aside` what may not pass yet.
    """

    __slots__ = ("_paused", "_tokens", "_weights", "aside", "inside", "limit")

    def __init__(self, limit: int, weights: Sequence[int], paused: Set[int]) -> None:
        self.limit = limit
        self.inside = 0
        self.aside: tuple[deque[_Gated[T]], ...] = tuple(deque() for _ in weights)
        """By lane, the most urgent first, as are the buckets."""
        self._weights = weights
        self._tokens = list(weights)
        self._paused = paused
        """Ranks of the lanes that are not served."""

    @property
    def open(self) -> bool:
        """Whether one more may pass. Never while any of a lane that is served is aside: what frees is theirs."""
        return self.inside < self.limit

    def weigh(self) -> None:
        """The weights have changed."""
        self._tokens[:] = map(min, self._tokens, self._weights)

    def next_aside(self) -> int | None:
        """The rank of the lane whose oldest task aside passes next; None if there is no place or none is aside."""
        if not self.open:
            return None
        urgent = [rank for rank, tasks in enumerate(self.aside) if tasks and rank not in self._paused]
        if not urgent:
            return None
        rank = next((rank for rank in urgent if self._tokens[rank]), None)
        if rank is None:
            self._tokens[:] = self._weights
            rank = urgent[0]
        self._tokens[rank] -= 1
        return rank


class _Gated(Generic[T]):
    """An item that must pass a gate; all others are kept bare."""

    __slots__ = ("gate", "item")

    def __init__(self, gate: _Gate[T], item: T) -> None:
        self.gate = gate
        self.item = item


class _Lane(Generic[T]):
    """What waits in one lane: those that hold their place already, then those in line; others are aside."""

    __slots__ = ("admitted", "aside", "gated", "line", "name", "rank", "tokens", "weight")

    def __init__(self, name: str, rank: int, weight: int) -> None:
        self.name = name
        self.rank = rank
        self.weight = self.tokens = weight
        self.admitted: deque[_Gated[T]] = deque()
        self.line: deque[Any] = deque()
        """Items, bare or `_Gated`."""
        self.gated = 0
        """How many in the line are `_Gated`."""
        self.aside = 0

    def step_aside(self) -> None:
        """Move what heads the line and may not run aside."""
        line = self.line
        while self.gated and isinstance(head := line[0], _Gated) and not head.gate.open:
            line.popleft()
            self.gated -= 1
            head.gate.aside[self.rank].append(head)
            self.aside += 1

    def runnable(self) -> bool:
        """Whether a task may run."""
        if self.gated and not self.admitted:
            self.step_aside()
        return bool(self.admitted or self.line)

    def serve(self, most: int, taken: list[T]) -> int:
        """Move up to so many tasks that may run to `taken`; returns how many."""
        line = self.line
        if not (self.gated or self.admitted):
            most = min(most, len(line))
            taken.extend([line.popleft() for _ in range(most)])
            return most
        before = len(taken)
        end = before + most
        while len(taken) < end and self.runnable():
            if self.admitted:
                taken.append(self.admitted.popleft().item)
                continue
            head = line.popleft()
            if isinstance(head, _Gated):
                self.gated -= 1
                head.gate.inside += 1
                head = head.item
            taken.append(head)
        return len(taken) - before

    def __len__(self) -> int:
        return len(self.admitted) + len(self.line) + self.aside


class Scheduler(Generic[T]):
    """The waiting tasks of a worker, and the order in which they run.

    Args:
        lanes: name -> (level, weight). The highest level is the most urgent, lanes of one level come in the order
            given; a weight is a whole number from 1 on.
        concurrency: task type -> how many of it may run at once; types not named have no limit.

    Raises:
        UsageError: a weight or a limit is below 1.
    """

    def __init__(self, lanes: Mapping[str, tuple[int, int]], concurrency: Mapping[str, int] | None = None) -> None:
        urgent_first = sorted(lanes.items(), key=lambda lane: -lane[1][0])
        weights = [weight for _, (_, weight) in urgent_first]
        if not all(weight >= 1 for weight in weights):
            raise UsageError(f"a lane has weight {min(weights)}", "A weight is a whole number from 1 on")
        for task_type, limit in (concurrency or {}).items():
            if limit < 1:
                raise UsageError(f"task type {task_type!r} has concurrency {limit}", "A limit is 1 or more")
        self._urgent_first = tuple(
            _Lane[T](name, rank, weight) for rank, (name, (_, weight)) in enumerate(urgent_first)
        )
        self._weights = weights
        """By rank; one list for all buckets."""
        self._served = self._urgent_first
        """Those that are not paused."""
        self._paused: set[int] = set()
        self._lanes = {lane.name: lane for lane in self._urgent_first}
        self._gates: dict[str, _Gate[T]] = {
            task_type: _Gate(limit, weights, self._paused) for task_type, limit in (concurrency or {}).items()
        }

    def offer(self, lane: str, task_type: str, item: T) -> None:
        """Put a task at the end of its lane."""
        place = self._lanes[lane]
        gate = self._gates.get(task_type)
        if gate is None:
            place.line.append(item)
        else:
            place.line.append(_Gated(gate, item))
            place.gated += 1

    def offer_many(self, lane: str, tasks: Iterable[tuple[str, T]]) -> None:
        """Put tasks, as (type, item), at the end of their lane, in order."""
        if self._gates:
            for task_type, item in tasks:
                self.offer(lane, task_type, item)
        else:
            self._lanes[lane].line.extend([item for _, item in tasks])

    def offer_first(self, lane: str, task_type: str, item: T) -> None:
        """Put a task at the front of its lane."""
        place = self._lanes[lane]
        place.step_aside()  # Whoever headed the line in vain steps aside before somebody else heads it.
        gate = self._gates.get(task_type)
        if gate is None:
            place.line.appendleft(item)
        elif gate.aside[place.rank]:
            gate.aside[place.rank].appendleft(_Gated(gate, item))
            place.aside += 1
        else:
            place.line.appendleft(_Gated(gate, item))
            place.gated += 1

    def take(self, limit: int) -> list[T]:
        """Take up to `limit` tasks to run now, in order; fewer only if no more may run.

        Each task of a type with a concurrency limit holds a slot of it until `finished`.
        """
        taken: list[T] = []
        room = limit
        while room > 0:
            # Serving a lane makes none before it runnable, so one sweep is the same as to pick anew for every task.
            for lane in self._served:
                if lane.tokens and (lane.line or lane.admitted):
                    served = lane.serve(min(lane.tokens, room), taken)
                    lane.tokens -= served
                    room -= served
                    if not room:
                        return taken
            runnable = [lane for lane in self._served if lane.runnable()]
            if not runnable:
                break
            for lane in self._served:
                lane.tokens = lane.weight
            if len(runnable) == 1:
                # The rounds of a lone lane, all at once.
                lane = runnable[0]
                served = lane.serve(room, taken)
                lane.tokens -= (served - 1) % lane.weight + 1
                room -= served
        return taken

    def finished(self, task_type: str) -> None:
        """A task of the type that was taken has ended: its slot goes to one that stepped aside.

        Raises:
            InvariantBroken: none of a limited type was running.
        """
        gate = self._gates.get(task_type)
        if gate is None:
            return
        if gate.inside < 1:
            raise InvariantBroken(f"a task of type {task_type!r} finished, but none was running")
        if not gate.open:
            self._step_aside()
        gate.inside -= 1
        self._admit(gate)

    def set_limit(self, task_type: str, limit: int) -> None:
        """Let so many of a type run at once from now on; of those that run already, all go on.

        Args:
            task_type: one that has a limit.
            limit: from 1 on.

        Raises:
            InvariantBroken: the type has no limit, or this is none.
        """
        gate = self._gates.get(task_type)
        if gate is None or limit < 1:
            raise InvariantBroken(f"task type {task_type!r} cannot have the limit {limit}")
        self._step_aside()
        gate.limit = limit
        self._admit(gate)

    def pause(self, lanes: Container[str]) -> None:
        """Serve all lanes but these from now on."""
        self._step_aside()
        self._served = tuple(lane for lane in self._urgent_first if lane.name not in lanes)
        self._paused.clear()
        self._paused.update(lane.rank for lane in self._urgent_first if lane.name in lanes)
        for rank in self._paused:
            lane = self._urgent_first[rank]
            while lane.admitted:
                admitted = lane.admitted.pop()
                admitted.gate.inside -= 1
                admitted.gate.aside[rank].appendleft(admitted)
                lane.aside += 1
        for gate in self._gates.values():
            self._admit(gate)

    def weigh(self, weights: Mapping[str, int]) -> None:
        """Serve the lanes by these weights from now on, each from 1 on; those that are not named keep theirs."""
        for lane in self._urgent_first:
            lane.weight = self._weights[lane.rank] = weights.get(lane.name, lane.weight)
            lane.tokens = min(lane.tokens, lane.weight)
        for gate in self._gates.values():
            gate.weigh()

    def _step_aside(self) -> None:
        """Let all step aside that head a line and may not run: a place that frees goes to the most urgent of them."""
        for lane in self._urgent_first:
            lane.step_aside()

    def _admit(self, gate: _Gate[T]) -> None:
        while (rank := gate.next_aside()) is not None:
            gate.inside += 1
            lane = self._urgent_first[rank]
            lane.admitted.append(gate.aside[rank].popleft())
            lane.aside -= 1

    def discard(self, predicate: Callable[[T], bool]) -> list[T]:
        """Take out the waiting tasks for which the predicate holds (their partition was revoked), lane by lane."""

        def revoked(entry: T | _Gated[T]) -> bool:
            return predicate(_bare(entry))

        self._step_aside()
        gone: list[T | _Gated[T]] = []
        for lane in self._urgent_first:
            for admitted in _sift(lane.admitted, revoked):
                admitted.gate.inside -= 1
                gone.append(admitted)
            for gate in self._gates.values():
                aside = _sift(gate.aside[lane.rank], revoked)
                lane.aside -= len(aside)
                gone += aside
            in_line = _sift(lane.line, revoked)
            lane.gated -= sum(isinstance(entry, _Gated) for entry in in_line)
            gone += in_line
        for gate in self._gates.values():
            self._admit(gate)
        return [_bare(entry) for entry in gone]

    def heads(self) -> list[T]:
        """The task of each lane that is served that is next in it; asked from another thread, those of a moment ago."""
        found: list[T] = []
        for lane in self._served:
            with suppress(IndexError):
                found.append(lane.admitted[0].item if lane.admitted else _bare(lane.line[0]))
        return found

    def waiting(self, lane: str) -> int:
        """How many tasks wait in the lane."""
        return len(self._lanes[lane])

    def __iter__(self) -> Iterator[T]:
        """All that waits, in no order."""
        for lane in self._urgent_first:
            yield from (admitted.item for admitted in lane.admitted)
            yield from (_bare(entry) for entry in lane.line)
            yield from (each.item for gate in self._gates.values() for each in gate.aside[lane.rank])

    def __len__(self) -> int:
        return sum(map(len, self._urgent_first))

    @property
    def lanes_with_work(self) -> tuple[str, ...]:
        """The lanes in which tasks wait, the most urgent first."""
        return tuple(lane.name for lane in self._urgent_first if len(lane))


def _bare(entry: T | _Gated[T]) -> T:
    return entry.item if isinstance(entry, _Gated) else entry


def _sift(entries: deque[E], gone: Callable[[E], bool]) -> list[E]:
    """Take out the entries for which `gone` holds, in order; the others keep theirs."""
    taken: list[E] = []
    kept: list[E] = []
    for entry in entries:
        (taken if gone(entry) else kept).append(entry)
    if taken:
        entries.clear()
        entries.extend(kept)
    return taken
