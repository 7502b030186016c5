"""An operator of a world: pauses, weighs, kills, demotes and cancels at random, while there is a storm.

Invariant: what is asked is one log; each worker reads it in order, all of it before it begins, then at its own pace.
When the storm is over nothing is paused any more.
"""

from __future__ import annotations

from random import Random

from fairlane.topics.control import (
    CANCEL,
    DEMOTE,
    KILL,
    LANE,
    PAUSE,
    QUEUE,
    TASK,
    TYPE,
    WEIGHT,
    ControlRecord,
    encode_control,
    key_of,
)
from simulation.scenario import NAMES, Scenario
from simulation.sending import Sending
from simulation.world import World

TYPES = ("work", "few")
Word = tuple[bytes, bytes | None]


class Operating:
    """The operator.

    Args:
        world: where it lives.
        scenario: how often it acts.
        sending: knows what there is to cancel.
        seed: of what it draws, apart from the world's own, so that a world without it is the same.
    """

    def __init__(self, world: World, scenario: Scenario, sending: Sending, seed: int) -> None:
        self._world = world
        self._scenario = scenario
        self._sending = sending
        self._rng = Random(seed)
        self.log: list[Word] = []
        """The control topic."""
        self.cancels = self.pauses = 0

    def start(self) -> None:
        """Begin to act."""
        if self._scenario.operator_s:
            self._world.spawn(self._act)

    def take_back(self, task_id: str) -> None:
        """A worker says that a cancel has served."""
        self.log.append((key_of(CANCEL, TASK + task_id), None))

    def _act(self) -> None:
        world, rng = self._world, self._rng
        lanes = [LANE + lane.topic for lane in self._scenario.lanes]
        scopes = [QUEUE, *lanes]
        while world.now < self._scenario.storm_s:
            world.sleep(rng.expovariate(1 / self._scenario.operator_s))
            match rng.choice(
                ("pause", "resume", "resume", "weigh", "unweigh", "type", "untype", "cancel", "cancel", "cancel")
            ):
                case "pause":
                    self.pauses += 1
                    until_ms = world.true_ms() + rng.randrange(3_000) if rng.random() < 0.5 else 0
                    self._ask(ControlRecord(kind=PAUSE, scope=rng.choice(scopes), until_ms=until_ms))
                case "resume":
                    self.log.append((key_of(PAUSE, rng.choice(scopes)), None))
                case "weigh":
                    self._ask(ControlRecord(kind=WEIGHT, scope=rng.choice(lanes), weight=rng.choice((1, 2, 9))))
                case "unweigh":
                    self.log.append((key_of(WEIGHT, rng.choice(lanes)), None))
                case "type":
                    self._ask(self._of_type(rng))
                case "untype":
                    self.log.append((key_of(rng.choice((PAUSE, KILL, DEMOTE)), TYPE + rng.choice(TYPES)), None))
                case _ if self._sending.sent:
                    self.cancels += 1
                    task = rng.choice(self._sending.sent)
                    before_ms = max(world.true_ms(), task.enqueued_ms)
                    self._ask(ControlRecord(kind=CANCEL, scope=TASK + task.id, who=NAMES.queue, before_ms=before_ms))
        scopes += [TYPE + kind for kind in TYPES]
        self.log += [(key_of(kind, scope), None) for kind in (PAUSE, KILL, DEMOTE) for scope in scopes]

    def _of_type(self, rng: Random) -> ControlRecord:
        """Something that is asked of a type."""
        lowest = min(self._scenario.lanes, key=lambda lane: lane.level)
        scope = TYPE + rng.choice(TYPES)
        return rng.choice(
            (
                ControlRecord(kind=PAUSE, scope=scope),
                ControlRecord(kind=DEMOTE, scope=scope, to=lowest.topic),
                ControlRecord(kind=KILL, scope=scope, action=rng.choice(("drop", "dlq", "park")), who=NAMES.queue),
            )
        )

    def _ask(self, record: ControlRecord) -> None:
        self.log.append((record.key, encode_control(record)))
