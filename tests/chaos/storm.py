"""The storm: which fault is next, drawn from a seed, and when it is mended.

Invariant: every fault is mended when its time is over, also when the storm ends before; and none begins on a broker
while another one is away or behind.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable
from typing import Final

from chaos.accounts import Fault
from chaos.brokers import ProxiedBrokers
from chaos.closed_topic import close_topic, open_topic
from chaos.crew import Crew, Member
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.connection import Connection
from fairlane.topics.errors import FairlaneError
from fairlane.topics.names import QueueNames
from fairlane.topics.topology import Topology

EVERY_S: Final = 4.0
"""The mean time from one fault to the next."""
LIVING_MIN: Final = 2
"""So many workers are left to work."""
JOINERS: Final = 3
PARTITIONS_MAX: Final = 8
AGAIN_S: Final = 2.0
SESSION_S: Final = 6.0
_TICK_S: Final = 0.1
_COORDINATORS: Final = {"kill_coordinator": "__consumer_offsets", "kill_transaction_coordinator": "__transaction_state"}

Mend = Callable[[], None]


class Storm:
    """Faults on one cluster and one crew.

    Args:
        brokers: three, behind a proxy.
        crew: workers and producers.
        names: of the queue.
        seed: of all that is drawn.
        workers: how many work when nothing is wrong.
        producers: likewise.
        say: told of each fault, in a line.
    """

    def __init__(
        self,
        brokers: ProxiedBrokers,
        crew: Crew,
        names: QueueNames,
        *,
        seed: int,
        workers: int,
        producers: int,
        say: Callable[[str], None],
    ) -> None:
        self._brokers = brokers
        self._crew = crew
        self._names = names
        self._dice = random.Random(seed)
        self._workers = workers
        self._producers = producers
        self._say = say
        self._began = time.monotonic()
        self._mends: list[tuple[float, int, Mend]] = []
        self._numbers = itertools.count()
        self._back_at: float | None = 0.0
        """Since when no broker is harmed; None while one is."""
        self._dlq_is_closed = False
        self._topics = TopicAdmin(Connection(brokers.direct), timeout_s=20)
        self.faults: list[Fault] = []
        self._kinds: dict[str, tuple[int, Callable[[], tuple[str, float] | None]]] = {
            "kill_worker": (5, self._kill_worker),
            "freeze_worker": (4, self._freeze_worker),
            "leave_worker": (2, self._leave_worker),
            "rebalance_storm": (2, self._rebalance_storm),
            "kill_leader": (3, self._kill_leader),
            "kill_coordinator": (2, lambda: self._kill_coordinator("kill_coordinator")),
            "kill_transaction_coordinator": (2, lambda: self._kill_coordinator("kill_transaction_coordinator")),
            "freeze_broker": (2, self._freeze_broker),
            "cut_connections": (4, self._cut_connections),
            "delay_connections": (2, self._delay_connections),
            "hold_connections": (2, self._hold_connections),
            "add_partitions": (1, self._add_partitions),
            "refuse_dlq": (2, self._refuse_dlq),
            "kill_producer": (1, self._kill_producer),
        }

    def run(self, seconds: float) -> None:
        """Let it rage for so long, and mend everything."""
        ends_at = time.monotonic() + seconds
        next_at = time.monotonic() + self._dice.expovariate(1 / EVERY_S)
        while (now := time.monotonic()) < ends_at:
            self._keep(now)
            if now >= next_at:
                self._fault()
                next_at = time.monotonic() + self._dice.expovariate(1 / EVERY_S)
            time.sleep(_TICK_S)
        while self._mends:
            heapq.heappop(self._mends)[2]()

    def keep(self) -> None:
        """What must be seen to also when the storm is over: who has died is replaced."""
        self._keep(time.monotonic())

    def _keep(self, now: float) -> None:
        while self._mends and self._mends[0][0] <= now:
            heapq.heappop(self._mends)[2]()
        crew = self._crew
        crew.look(now)
        while len([each for each in crew.workers if each.left_at is None]) < self._workers:
            crew.start_worker()
        while len(crew.producers) < self._producers:
            crew.start_producer()

    def calm(self) -> None:
        """No producer is replaced any more."""
        self._producers = 0

    def _fault(self) -> None:
        # One that is not possible now gives its turn to another, so that there is one.
        kinds = list(self._kinds)
        while kinds:
            (kind,) = self._dice.choices(kinds, [self._kinds[each][0] for each in kinds])
            began = time.time()
            done = self._kinds[kind][1]()
            if done is not None:
                target, lasts_s = done
                self.faults.append(Fault(kind, target, began, time.time() + lasts_s))
                lasting = f" for {lasts_s:.1f} s" if lasts_s else ""
                self._say(f"{time.monotonic() - self._began:7.1f} s  {kind}: {target}{lasting}")
                return
            kinds.remove(kind)

    def _later(self, after_s: float, mend: Mend) -> None:
        heapq.heappush(self._mends, (time.monotonic() + after_s, next(self._numbers), mend))

    # Workers and producers.

    def _standing(self) -> Member | None:
        standing = [each for each in self._crew.workers if each.stands]
        return self._dice.choice(standing) if len(standing) > LIVING_MIN else None

    def _kill_worker(self) -> tuple[str, float] | None:
        if (worker := self._standing()) is None:
            return None
        self._crew.kill(worker)
        return worker.name, 0.0

    def _freeze_worker(self) -> tuple[str, float] | None:
        if (worker := self._standing()) is None:
            return None
        lasts_s = self._dice.choice((1.0, 4.0, 8.0, 13.0, 18.0))
        self._crew.freeze(worker)
        self._later(lasts_s, lambda: self._crew.thaw(worker))
        return worker.name, lasts_s

    def _leave_worker(self) -> tuple[str, float] | None:
        if (worker := self._standing()) is None:
            return None
        self._crew.leave(worker)
        return worker.name, 0.0

    def _rebalance_storm(self) -> tuple[str, float] | None:
        if len([each for each in self._crew.workers if each.left_at is None]) > self._workers:
            return None
        joined = [self._crew.start_worker() for _ in range(self._dice.randint(1, JOINERS))]
        stays_s = self._dice.uniform(3, 10)
        for index, worker in enumerate(joined):
            self._later(stays_s + index * 0.7, lambda worker=worker: self._go(worker))  # type: ignore[misc]
        return " ".join(each.name for each in joined), stays_s + 0.7 * len(joined)

    def _go(self, worker: Member) -> None:
        if worker.runs and worker.left_at is None:
            self._crew.thaw(worker)
            self._crew.leave(worker)

    def _kill_producer(self) -> tuple[str, float] | None:
        standing = [each for each in self._crew.producers if each.stands]
        if not standing:
            return None
        producer = self._dice.choice(standing)
        self._crew.kill(producer)
        return producer.name, 0.0

    # Brokers.

    def _may_harm_a_broker(self) -> bool:
        # Within a broker's session, the others take one that is away for one that is in sync.
        is_back = self._back_at is not None and time.monotonic() > self._back_at + SESSION_S
        return is_back and self._brokers.in_sync()

    def _harm(self, lasts_s: float, mend: Mend) -> None:
        self._back_at = None

        def back() -> None:
            mend()
            self._back_at = time.monotonic()

        self._later(lasts_s, back)

    def _kill_leader(self) -> tuple[str, float] | None:
        lane = self._names.lane(self._dice.randint(1, 5))
        count = self._brokers.partitions(lane)
        return self._kill_leader_of(lane, self._dice.randrange(count)) if count else None

    def _kill_coordinator(self, kind: str) -> tuple[str, float] | None:
        topic = _COORDINATORS[kind]
        count = self._brokers.partitions(topic)
        return self._kill_leader_of(topic, self._dice.randrange(count)) if count else None

    def _kill_leader_of(self, topic: str, partition: int) -> tuple[str, float] | None:
        if not self._may_harm_a_broker() or (leader := self._brokers.leader(topic, partition)) is None:
            return None
        away_s = self._dice.choice((0.2, 2.0, 7.0, 12.0))
        self._brokers.kill(leader)
        self._harm(away_s, self._brokers.start)
        return f"broker {leader}, which leads {topic}/{partition}", away_s

    def _freeze_broker(self) -> tuple[str, float] | None:
        if not self._may_harm_a_broker():
            return None
        broker = self._dice.choice(self._brokers.ids)
        lasts_s = self._dice.choice((1.0, 4.0, 9.0))
        self._brokers.freeze(broker)
        self._harm(lasts_s, lambda: self._brokers.thaw(broker))
        return f"broker {broker}", lasts_s

    # The network.

    def _gates(self) -> list[int]:
        """The gates of one broker, or of all."""
        ids = self._brokers.ids
        return self._dice.choice([*([each] for each in ids), ids])

    def _cut_connections(self) -> tuple[str, float] | None:
        gates = self._gates()
        cut = sum(self._brokers.proxy.cut(self._brokers.behind[each]) for each in gates)
        return f"{cut} connections to brokers {gates}", 0.0

    def _delay_connections(self) -> tuple[str, float] | None:
        gates, lasts_s, delay_s = self._gates(), self._dice.uniform(3, 12), self._dice.choice((0.05, 0.3, 1.5))
        for each in gates:
            port = self._brokers.behind[each]
            self._brokers.proxy.delay(port, delay_s)
            self._later(lasts_s, lambda port=port: self._brokers.proxy.delay(port, 0.0))  # type: ignore[misc]
        return f"{delay_s:g} s on the way to brokers {gates}", lasts_s

    def _hold_connections(self) -> tuple[str, float] | None:
        gates, lasts_s = self._gates(), self._dice.choice((1.0, 5.0, 9.0))
        for each in gates:
            port = self._brokers.behind[each]
            self._brokers.proxy.hold(port)
            self._later(lasts_s, lambda port=port: self._brokers.proxy.release(port))  # type: ignore[misc]
        return f"silence on the way to brokers {gates}", lasts_s

    # Topics.

    def _add_partitions(self) -> tuple[str, float] | None:
        count = self._brokers.partitions(self._names.lane(3))
        # Partitions are made by all brokers, and are known to all: no fault of theirs is mixed with that.
        if not 0 < count < PARTITIONS_MAX or not self._may_harm_a_broker():
            return None
        try:
            self._topics.grow(Topology.of(self._names), count + 1)
        except FairlaneError as error:
            self._say(f"no partitions were added: {error}")
            return None
        return f"{count + 1} instead of {count}", 0.0

    def _refuse_dlq(self) -> tuple[str, float] | None:
        if self._dlq_is_closed:
            return None
        lasts_s = self._dice.uniform(2, 10)
        self._dlq_is_closed = True
        is_closed = close_topic(self._brokers.admin, self._names.dlq)
        # Also where nobody knows whether it is closed: it must be open in the end.
        self._later(lasts_s if is_closed else 0.0, self._take_dlq)
        if not is_closed:
            return None
        return self._names.dlq, lasts_s

    def _take_dlq(self) -> None:
        if open_topic(self._brokers.admin, self._names.dlq):
            self._dlq_is_closed = False
        else:
            self._later(AGAIN_S, self._take_dlq)
