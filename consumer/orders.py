"""What operators ask of all workers of a queue now, as one of them obeys it.

Invariant: frozen values without I/O and clock; equal orders are obeyed equally, so nobody is told the same twice. What
is to become of a task that has not begun follows from the orders and the task alone. A task is killed if any
kill-switch fits it; else moved, if its type is demoted and it is in a more urgent lane; else it waits, if its type is
paused or a kill-switch parks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from fairlane.topics import wire
from fairlane.topics.condition import NOTHING, Condition, document_of
from fairlane.topics.task import Task


class Fate(NamedTuple):
    """What becomes of a task that has not begun.

    Attributes:
        action: `drop` ends it as cancelled, `dlq` makes it a dead letter, `move` puts it into another lane, and `hold`
            lets it wait.
        why: who asked, and the reason.
        lane: topic of the lane that it is moved to.
        level: of that lane.
    """

    action: Literal["drop", "dlq", "move", "hold"]
    why: str = ""
    lane: str = ""
    level: int = 0


HOLD: Final = Fate("hold")


class Kill(NamedTuple):
    """A kill-switch; without a condition it fits all tasks of its type."""

    fate: Fate
    condition: Condition | None = None


class Demotion(NamedTuple):
    """A lane of the queue's own that tasks are moved to, and those that they are moved from: the more urgent ones."""

    fate: Fate
    above: frozenset[str]


class OfType(NamedTuple):
    """What is in force for one type of tasks.

    Attributes:
        is_paused: whether none of it is to start.
        kills: its kill-switches, the oldest first.
        demotion: where it is moved to; None leaves it where it is.
    """

    is_paused: bool = False
    kills: tuple[Kill, ...] = ()
    demotion: Demotion | None = None

    def fate(self, task: Task) -> Fate | None:
        """What becomes of a task of the type; None lets it run."""
        holds = self.is_paused
        if self.kills:
            document: object = NOTHING
            if any(kill.condition is not None and kill.condition.pointer is not None for kill in self.kills):
                document = document_of(task.payload)
            headers = wire.producers_headers(task) or ()
            for fate, condition in self.kills:
                if condition is None or condition.holds(document, headers):
                    if fate is not HOLD:
                        return fate
                    holds = True
        if self.demotion is not None and task.lane in self.demotion.above:
            return self.demotion.fate
        return HOLD if holds else None


class Orders(NamedTuple):
    """What is in force, but for cancels.

    Attributes:
        lanes: topics of the lanes of which nothing is to start.
        tiers: whether tiers are not to be read either.
        weights: of the lanes whose weight is another than the one that is configured, in order.
        types: what is in force for types, in order.
    """

    lanes: frozenset[str] = frozenset()
    tiers: bool = False
    weights: tuple[tuple[str, int], ...] = ()
    types: tuple[tuple[str, OfType], ...] = ()

    def weighed(self, configured: Mapping[str, int]) -> dict[str, int]:
        """The weights of all lanes, of which these are configured."""
        return {**configured, **{lane: weight for lane, weight in self.weights if lane in configured}}

    def __str__(self) -> str:
        said = ["the whole queue is paused"] if self.tiers else [f"{lane} is paused" for lane in sorted(self.lanes)]
        said += [f"{lane} has weight {weight}" for lane, weight in self.weights]
        for task_type, asked in self.types:
            said += [f"type {task_type} is paused"] * asked.is_paused
            said += [f"type {task_type} has a kill-switch: {kill.fate.action}" for kill in asked.kills]
            said += [f"type {task_type} goes to {asked.demotion.fate.lane}"] if asked.demotion is not None else []
        return "; ".join(said) or "nothing"


NO_ORDERS: Final = Orders()
