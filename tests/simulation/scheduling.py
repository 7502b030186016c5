"""The schedules of a world: what is asked of them, and whether each of their instants is a task once.

Invariant, looked at after every commit: no instant has two tasks, and the tasks of a commit are those that its states
speak of. In the end, when nobody was away for longer than an instant may be late: from its definition on, and but for
pauses, each instant that is over has its task.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random

from fairlane.testing.memory import Commit, MemoryBroker
from fairlane.topics.schedules import (
    Schedule,
    ScheduleEvent,
    ScheduleState,
    decode_state,
    encode,
    key_of,
)
from simulation.accounts import Accounts
from simulation.scenario import NAMES, Scenario
from simulation.world import World

PAYLOAD = b'{"ms": 5}'
CATCH_UP_MS = 15_000
"""After a calm so long an instant has its task."""


FIRES_MIN = 10
"""So many tasks of each schedule are waited for at least."""


class Scheduling:
    """Who asks for schedules, and who counts what becomes of them.

    Args:
        world: where it lives.
        broker: its Kafka.
        scenario: how many there are.
        accounts: are told what does not hold.
        seed: of what is drawn here, apart from the world's own, so that a world without schedules is the same.
    """

    def __init__(self, world: World, broker: MemoryBroker, scenario: Scenario, accounts: Accounts, seed: int) -> None:
        self._world = world
        self._broker = broker
        self._scenario = scenario
        self._accounts = accounts
        self._rng = Random(seed)
        self._fired: dict[str, list[str]] = defaultdict(list)
        self._states: dict[str, ScheduleState] = {}
        self._began: dict[str, int] = {}
        self._ended_ms = 0
        self.schedules = [
            Schedule(
                name=f"every-{number}",
                type="work",
                every_ms=self._rng.choice((1_000, 1_000, 2_000, 3_000)),
                misfire="all",
                payload=PAYLOAD,
                priority=self._rng.choice((1, 3, 5)),
                defined_ms=1,
            )
            for number in range(scenario.schedules)
        ]
        self._names = frozenset(each.name for each in self.schedules)

    @property
    def fired(self) -> int:
        """Tasks of all instants."""
        return sum(map(len, self._fired.values()))

    def start(self) -> None:
        """Make the topics, and begin to ask."""
        if not self.schedules:
            return
        for topic, config in ((NAMES.events, {}), (NAMES.state, {"cleanup.policy": "compact"})):
            self._broker.create_topic(topic, self._scenario.partitions, config)
        self._world.spawn(self._ask)

    def _ask(self) -> None:
        producer = self._broker.producer({})
        for schedule in self.schedules:
            self._world.sleep(self._rng.uniform(0.0, 2.0))
            event = ScheduleEvent(action="define", name=schedule.name, schedule=schedule)
            producer.produce(NAMES.events, encode(event), key_of(schedule.name))
        while self._world.now < self._scenario.storm_s:
            self._world.sleep(self._rng.expovariate(0.5))
            # Said again, as every worker that starts does.
            schedule = self._rng.choice(self.schedules)
            event = ScheduleEvent(action="define", name=schedule.name, schedule=schedule)
            producer.produce(NAMES.events, encode(event), key_of(schedule.name))
            self._broker.compact(NAMES.state)

    def stop(self) -> None:
        """Let no schedule make another task: a world ends when all tasks have."""
        if self.schedules and not self._ended_ms:
            self._ended_ms = self._world.true_ms()
            producer = self._broker.producer({})
            for each in self.schedules:
                event = ScheduleEvent(action="pause", name=each.name)
                producer.produce(NAMES.events, encode(event), key_of(each.name))

    def committed(self, commit: Commit) -> None:
        """A transaction was committed."""
        told: Counter[str] = Counter()
        for (topic, _), records in commit.records.items():
            for record in records:
                task_id = dict(record.headers).get("ce_id", b"") or b""
                name, at, _rest = task_id.decode().partition("@")
                if topic == NAMES.state:
                    told.subtract(self._note(record.key or b"", record.value))
                elif at and name in self._names and "fairlane-origin" not in dict(record.headers):
                    self._fired[name].append(task_id.decode())
                    told[name] += 1
                    if len(set(self._fired[name])) < len(self._fired[name]):
                        self._accounts.violated("once", f"{task_id.decode()} is a task twice")
        if any(told.values()):
            self._accounts.violated("one transaction", f"states and tasks of schedules differ: {dict(told)}")

    def _note(self, key: bytes, value: bytes | None) -> Counter[str]:
        """How many tasks more a state speaks of than the one before."""
        name = key.decode().partition(":")[2]
        state = decode_state(name, value or b"")
        if state is None:
            self._accounts.violated("state", f"of {name} cannot be read")
            return Counter()
        before = self._states.get(name)
        if before is None:
            self._began[name] = state.last_ms
        elif state.last_ms < before.last_ms:
            self._accounts.violated("once", f"{name} went back to {state.last_ms}")
        self._states[name] = state
        return Counter({name: state.fired - (before.fired if before is not None else 0)})

    @property
    def behind(self) -> str:
        """A schedule that lacks a task, "" if none does, or they are to make no more."""
        for schedule in () if self._ended_ms else self.schedules:
            began = self._began.get(schedule.name)
            if began is None:
                return f"{schedule.name} was never taken"
            due = schedule.timetable.newest(began, self._world.true_ms() - CATCH_UP_MS, 10**6)
            if len(due) < FIRES_MIN:
                return f"{schedule.name} has not been there for long"
            missing = {schedule.task_id(each) for each in due} - set(self._fired[schedule.name])
            if missing:
                return f"{min(missing)} has no task"
        return ""
