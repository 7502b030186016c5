"""One world from its seed to its end: senders, workers, a storm, a calm, and what must be so then.

Invariant: after the storm every origin gets its terminal event within a bounded time, and the group has nothing left
to read in Kafka's own eyes; during it, `Accounts` looks at every commit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import msgspec

from fairlane.testing.memory import Commit, MemoryBroker
from simulation.accounts import Accounts
from simulation.installed import Log, installed
from simulation.network import REFUSALS, Network, SimClock, Weather
from simulation.operating import Operating
from simulation.scenario import LOST_MAX, NAMES, RECORD_MAX_BYTES, Scenario, draw
from simulation.scheduling import Scheduling
from simulation.sending import Sending
from simulation.worker import SimWorker
from simulation.world import Process, World

CALM_S = 250.0
LAG_S = 20.0
KILLS_MAX = 2 * LOST_MAX + 2
"""A task that kills its workers has three of them by the books; one that was stopped and comes back, and one whose
attempt outlives the grace of a revocation, are not in these."""
TAKEN_OVER_S = 7.0
RESTART_S = 1.0
OPERATED = 0.3
"""The share of drawn worlds in which an operator acts."""


class Result(msgspec.Struct, frozen=True):
    """What became of a seed; `violation` is "" where all holds."""

    seed: int
    steps: int
    virtual_s: float
    workers: int
    origins: int
    commits: int
    moved: int
    faults: int
    reasons: dict[str, int]
    digest: str
    scheduled: int = 0
    kind: str = ""
    violation: str = ""


class Run:
    """One world.

    Args:
        seed: of all that is drawn.
        scenario: in place of the one that the seed draws.
        log: is told what happens.
    """

    def __init__(self, seed: int, scenario: Scenario | None = None, log: Log | None = None) -> None:
        self._seed = seed
        self._log = log
        rng = self._rng = Random(seed)
        self._scenario = scenario or draw(rng)
        if scenario is None and Random(-1 - seed).random() < OPERATED:
            self._scenario = replace(self._scenario, operator_s=1.0)
        chosen = self._scenario
        self._world = World(rng)
        self._network = Network(self._world, chosen.weather)
        self._broker = MemoryBroker(
            clock=SimClock(self._world), faults=self._network, rng=rng, session_timeout_s=6.0, heartbeat_s=1.0
        )
        self._read = [lane.topic for lane in chosen.lanes] + [NAMES.tier(tier) for tier in chosen.tiers]
        self._accounts = Accounts(NAMES, frozenset(self._read), unfinished=chosen.unfinished, span=chosen.span)
        self._broker.on_commit = self._committed
        self._workers: list[SimWorker] = []
        self._starts = 0
        self._kills: Counter[str] = Counter()
        self._taken: set[Process] = set()
        self._sending = Sending(self._world, self._broker, chosen, self._accounts)
        self._operating = Operating(self._world, chosen, self._sending, seed)
        self._scheduling = Scheduling(self._world, self._broker, chosen, self._accounts, seed)
        self._is_done = False

    def _committed(self, commit: Commit) -> None:
        self._accounts.committed(commit)
        self._scheduling.committed(commit)

    def run(self) -> Result:
        """Let it go from its beginning to its end."""
        for topic in self._read:
            self._broker.create_topic(topic, self._scenario.partitions, {"message.timestamp.type": "LogAppendTime"})
        for topic in (NAMES.status, NAMES.dlq, NAMES.replies):
            limit = {"max.message.bytes": str(RECORD_MAX_BYTES)} if topic == NAMES.status else {}
            self._broker.create_topic(topic, 2, limit)
        world, chosen = self._world, self._scenario
        with installed(
            world, self._broker, self._network, unfinished=chosen.unfinished, span=chosen.span, log=self._log
        ):
            self._sending.start()
            self._operating.start()
            self._scheduling.start()
            for number in range(chosen.workers):
                self._start(f"w{number}")
            world.spawn(self._storm)
            world.spawn(self._take_over)
            try:
                world.run(lambda: not self._is_done and self._accounts.violation is None)
            finally:
                world.end()
        violation = self._accounts.violation
        return Result(
            seed=self._seed,
            steps=world.steps,
            virtual_s=round(world.now, 3),
            workers=self._starts,
            origins=self._accounts.origins,
            commits=self._accounts.commits,
            moved=self._accounts.moved,
            faults=self._network.faults,
            reasons=dict(sorted(self._accounts.reasons.items())),
            digest=self._accounts.digest,
            scheduled=self._scheduling.fired,
            kind=violation.kind if violation else "",
            violation=str(violation) if violation else "",
        )

    def _start(self, name: str) -> None:
        self._starts += 1
        skew_ms = self._rng.randint(-self._scenario.skew_ms, self._scenario.skew_ms)
        worker = SimWorker(
            self._world, self._scenario, self._accounts, name, self._starts, skew_ms, self._killed_by, self._operating
        )
        self._workers.append(worker)
        if self._world.now < self._scenario.storm_s and self._scenario.slow_s and self._rng.random() < 0.5:
            self._network.slow[worker.process] = self._scenario.slow_s

    def _killed_by(self, origin: str) -> None:
        self._network.faults += 1
        self._kills[origin] += 1
        if self._kills[origin] > KILLS_MAX:
            self._accounts.violated("poison", f"{origin} has killed {self._kills[origin]} workers")

    @property
    def _living(self) -> list[SimWorker]:
        return [each for each in self._workers if each.process.alive]

    def _storm(self) -> None:
        """What happens to workers, until it is over; then all is well, and everything must end."""
        world, rng, chosen = self._world, self._rng, self._scenario
        while world.now < chosen.storm_s:
            world.sleep(rng.expovariate(1 / chosen.every_s))
            self._replace_the_dead()
            self._fault()
        self._network.weather = Weather(latency_s=0.002)
        self._network.slow.clear()
        self._network.closed.clear()
        for worker in self._living:
            world.thaw(worker.process)
        self._calm()

    def _fault(self) -> None:
        world, rng = self._world, self._rng
        standing = [each for each in self._living if not each.process.frozen and not each.leaving]
        choice = rng.choice(("kill", "stop", "leave", "join", "nothing", "slow", "refuse"))
        match choice:
            case "kill" if standing:
                world.kill(rng.choice(standing).process)
            case "stop" if standing:
                process = rng.choice(standing).process
                world.freeze(process)
                seconds = rng.choice((0.5, 4.0, 9.0, 15.0))
                world.spawn(lambda: self._back(process, seconds))
            case "leave" if standing:
                rng.choice(standing).leave(rng.choice((0.0, 2.0)))
            case "join" if len(self._living) < 2 * self._scenario.workers + 1:
                self._start(f"x{self._starts}")
            case "slow" if standing and self._scenario.slow_s:
                self._network.slow[rng.choice(standing).process] = self._scenario.slow_s
            case "refuse" if self._scenario.refusing_s:
                self._close(rng.choice((NAMES.dlq, NAMES.dlq, NAMES.dlq, NAMES.status)))
            case _:
                return
        self._network.faults += 1
        if self._log is not None:
            self._log(f"{world.now:9.3f} storm    {choice}")

    def _close(self, topic: str) -> None:
        """It takes no record for a while."""
        world, rng = self._world, self._rng
        self._network.closed[topic] = rng.choice(REFUSALS)
        seconds = rng.uniform(0.3, 1.0) * self._scenario.refusing_s

        def opens() -> None:
            world.sleep(seconds)
            self._network.closed.pop(topic, None)

        world.spawn(opens)

    def _back(self, process: Process, seconds: float) -> None:
        self._world.sleep(seconds)
        self._world.thaw(process)

    def _replace_the_dead(self) -> None:
        for worker in [each for each in self._workers if not each.process.alive]:
            self._workers.remove(worker)
            if len(self._living) < self._scenario.workers:
                self._start(worker.name if not any(each.name == worker.name for each in self._living) else "again")

    def _take_over(self) -> None:
        """As the first of the living does: the ids of those that are silent for longer than a session are fenced."""
        while True:
            self._world.sleep(1.0)
            silent = [each for each in self._network.processes.values() if each.silent_since is not None]
            for process in dict.fromkeys(silent):
                since = process.silent_since
                if since is not None and self._world.now - since > TAKEN_OVER_S and process not in self._taken:
                    self._taken.add(process)
                    name, _, start = process.name.partition("#")
                    self._broker.transactions.init(f"fairlane-{NAMES.queue}-{name}-{start}", 10.0)

    def _calm(self) -> None:
        world = self._world
        ends_at = world.now + CALM_S
        while (late := self._scheduling.behind) or self._accounts.open or not self._sending.is_done:
            if not late:
                self._scheduling.stop()
            if world.now > ends_at:
                open_still = f"{self._accounts.open} tasks have no end after {CALM_S:g} s"
                self._accounts.violated("progress", late or open_still)
                return
            world.sleep(RESTART_S)
            self._replace_the_dead()
            if not self._living:
                self._start(f"y{self._starts}")
        ends_at = world.now + LAG_S
        while lag := self._lag():
            if world.now > ends_at:
                self._accounts.violated("lag 0", f"{lag} are not committed to their ends")
                return
            world.sleep(0.5)
        self._is_done = True

    def _lag(self) -> list[tuple[str, int, int, int]]:
        offsets = self._broker.group(NAMES.group).offsets
        found = []
        for topic in [*self._read, *([NAMES.events] if self._scenario.schedules else [])]:
            for number in range(self._scenario.partitions):
                end = self._broker.log((topic, number)).end
                known = offsets.get((topic, number))
                if end and (known is None or known.offset != end):
                    found.append((topic, number, known.offset if known else -1, end))
        return found
