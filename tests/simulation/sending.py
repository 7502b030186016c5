"""What is sent into a world: tasks, twice sometimes, garbage, tombstones, and records of foreign transactions.

Invariant: whatever is in a lane or a tier is in the accounts before any worker can read it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlane.testing.memory import MemoryBroker
from fairlane.topics import routing, wire
from fairlane.topics.task import Task
from simulation.accounts import Accounts
from simulation.scenario import NAMES, Scenario
from simulation.world import World

GARBAGE = (b"", b"\xff\xfe", b"{", b"[]", b'{"type": 7}', b'{"payload": {}}')


class Sending:
    """The clients of a queue."""

    def __init__(self, world: World, broker: MemoryBroker, scenario: Scenario, accounts: Accounts) -> None:
        self._world = world
        self._broker = broker
        self._scenario = scenario
        self._accounts = accounts
        self._producer = broker.producer({})
        self._at_work = 0
        self.sent: list[Task] = []
        """The tasks, in order."""

    @property
    def is_done(self) -> bool:
        """Whether everything is sent."""
        return not self._at_work

    def start(self) -> None:
        """Begin to send."""
        for run in (self._send, self._send_in_transactions):
            self._at_work += 1
            self._world.spawn(run)

    def _send(self) -> None:
        world, rng, chosen = self._world, self._world.rng, self._scenario
        for number in range(chosen.tasks):
            if rng.random() < 0.7:
                world.sleep(rng.expovariate(chosen.tasks / chosen.send_s))
            lane = rng.choice(chosen.lanes)
            if rng.random() < chosen.garbage:
                value = rng.choice((None, *GARBAGE))
                self._write(lane.topic, value, None, [], count=value is not None)
                continue
            task = self._task(number, lane.topic, lane.level)
            self.sent.append(task)
            topic = routing.first_topic(task, NAMES, chosen.tiers, world.true_ms())
            for _ in range(2 if rng.random() < 0.03 else 1):
                self._write(topic, task.value, task.key, list(wire.encode(task)))
        self._at_work -= 1

    def _write(self, topic: str, value: bytes | None, key: bytes | None, headers: Any, *, count: bool = True) -> None:
        def written(error: object, message: Any) -> None:
            assert error is None
            if count:
                self._accounts.sent(topic, message.partition(), message.offset())

        self._producer.produce(topic, value, key, headers=headers, on_delivery=written)
        self._producer.poll(0)

    def _task(self, number: int, lane: str, level: int) -> Task:
        rng, chosen, now_ms = self._world.rng, self._scenario, self._world.true_ms()
        kind = "poison" if rng.random() < chosen.poison else "reject" if rng.random() < 0.02 else "work"
        longest_s = chosen.long_s if rng.random() < chosen.long else 0.02
        plan: dict[str, object] = {
            "ms": int(rng.uniform(0, longest_s) * 1000),
            "fails": rng.choice((1, 2, 9)) if rng.random() < 0.15 else 0,
            "kind": kind,
            "huge": rng.random() < chosen.huge,
        }
        payload = msgspec.json.encode(plan)
        is_delayed = rng.random() < chosen.delayed
        return Task(
            id=f"t{number}",
            type=rng.choices(("work", "few", "ghost"), (20, 5, 0.3))[0],
            payload=payload,
            value=payload,
            priority=level,
            lane=lane,
            source="sim",
            key=b"hot" if rng.random() < chosen.hot else None,
            enqueued_ms=now_ms,
            not_before_ms=now_ms + int(rng.choice((0.3, 1, 4, 9, 25)) * 1000) if is_delayed else 0,
            expires_ms=now_ms + 2_000 if rng.random() < 0.03 else 0,
        )

    def _send_in_transactions(self) -> None:
        """Somebody else's transactional producer: its markers are gaps, and its open transactions hold readers back."""
        world, rng, chosen = self._world, self._world.rng, self._scenario
        producer = self._broker.producer({"transactional.id": "foreign"})
        producer.init_transactions()
        for number in range(int(chosen.tasks * chosen.foreign)):
            world.sleep(rng.expovariate(1 / 0.5))
            producer.begin_transaction()
            for _ in range(rng.randint(1, 3)):
                value = b'{"type": "work", "payload": {"ms": %d}, "id": "f%d"}' % (rng.randrange(100), number)
                producer.produce(rng.choice(chosen.lanes).topic, value)
            world.sleep(rng.choice((0.0, 0.2, 2.0)))
            (producer.commit_transaction if rng.random() < 0.6 else producer.abort_transaction)()
        self._at_work -= 1
