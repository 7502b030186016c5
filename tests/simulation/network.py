"""The network between the workers of a world and its Kafka: latency, errors, lost answers; and the moments of crashes.

Invariant: an error comes before a call has its effect or after it, as `Faults` has it, and has the flags that the real
client gives it. Nothing here decides what is right.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError

from fairlane.consumer.bounded_call import CallLost
from fairlane.testing.memory import Faults
from fairlane.testing.memory.failures import fatal, must_abort, retriable
from simulation.world import Process, ProcessKilled, World

TRANSACTIONAL = ("send_offsets_to_transaction", "commit_transaction", "abort_transaction", "init_transactions")
ASKS = ("committed", "offsets_for_times")
LATE_S = 0.3
"""After so long at most a record that is not taken is given up: less than a worker waits, since a world is short."""
REFUSALS = (KafkaError._MSG_TIMED_OUT, KafkaError._MSG_TIMED_OUT, KafkaError.TOPIC_AUTHORIZATION_FAILED)
"""How a topic refuses: by saying nothing, so that nobody knows which outcome it was, or by naming the right."""


class SimClock:
    """The clock of a broker in a world: nobody else runs while something happens in it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.now

    def now_ms(self) -> int:
        return self._world.true_ms()

    def held(self) -> AbstractContextManager[object]:
        return nullcontext()

    @property
    def changes(self) -> int:
        return 0

    def changed(self) -> None:
        """Whoever waits looks by itself."""

    def wait(self, seen: int, timeout_s: float) -> None:
        self._world.sleep(timeout_s)


@dataclass
class Weather:
    """How bad it is: chances per call.

    Attributes:
        latency_s: the mean of what a call takes.
        errors: an error that says what is to follow.
        lost: the call had its effect, and its answer was lost.
        fatal: the client is of no further use.
        gone: the call does not return.
        crashes: the process dies at the call, before or after its effect.
    """

    latency_s: float = 0.004
    errors: float = 0.0
    lost: float = 0.0
    fatal: float = 0.0
    gone: float = 0.0
    crashes: float = 0.0


class Network(Faults):
    """Between all clients and the broker.

    Args:
        world: its time and its chance.
        weather: may be changed at any time.
    """

    def __init__(self, world: World, weather: Weather) -> None:
        self._world = world
        self.weather = weather
        self.slow: dict[Process, float] = {}
        """Processes whose commits take so much longer, seconds."""
        self.processes: dict[int, Process] = {}
        """Of each client, by its id."""
        self.crashed: list[Process] = []
        self.closed: dict[str, int] = {}
        """Topics that take no record, and the code of the error that tells of it."""
        self._waits: set[int] = set()
        """Clients that wait for what such a topic does not take, by their ids."""
        self.faults = 0

    def before(self, call: str, client: object) -> None:
        process = self._world.process
        if not process.alive:
            raise ProcessKilled
        if process is self._world.outside:
            return
        rng, weather = self._world.rng, self.weather
        if call == "produce":
            self._crash(weather.crashes / 8)
            return
        if call == "flush" and id(client) in self._waits:
            # librdkafka sends it again and again until its time is up.
            self._waits.discard(id(client))
            self._world.sleep(rng.uniform(0.0, LATE_S))
        if call not in TRANSACTIONAL and call not in ASKS:
            return
        self._world.sleep(rng.expovariate(1 / weather.latency_s) + self._slowness(call, process))
        self._crash(weather.crashes)
        if rng.random() < weather.errors:
            self.faults += 1
            raise self._error(call)
        if call in TRANSACTIONAL and rng.random() < weather.fatal and call != "init_transactions":
            self.faults += 1
            error = fatal(KafkaError._FENCED)
            client_: Any = client
            client_._fatal = error
            raise error

    def _slowness(self, call: str, process: Process) -> float:
        slow_s = self.slow.get(process, 0.0) if call in ("commit_transaction", "send_offsets_to_transaction") else 0.0
        return self._world.rng.uniform(0, 2 * slow_s) if slow_s else 0.0

    def after(self, call: str, client: object) -> None:
        process = self._world.process
        if process is self._world.outside:
            return
        rng, weather = self._world.rng, self.weather
        self._crash(weather.crashes)
        self._world.sleep(rng.expovariate(1 / weather.latency_s))
        if rng.random() < weather.lost:
            self.faults += 1
            raise retriable(KafkaError._TIMED_OUT)
        if call != "init_transactions" and rng.random() < weather.gone:
            self.faults += 1
            raise CallLost("the network has it")

    def refuses(self, topic: str, client: object) -> KafkaError | None:
        code = self.closed.get(topic)
        if code is None or self._world.process is self._world.outside:
            return None
        if code == KafkaError._MSG_TIMED_OUT:
            self._waits.add(id(client))
        return KafkaError(code)

    def silent_since(self, client: object) -> float | None:
        process = self.processes.get(id(client))
        return process.silent_since if process is not None else None

    def _error(self, call: str) -> Exception:
        rng = self._world.rng
        if call in ASKS or call in ("abort_transaction", "init_transactions") or rng.random() < 0.5:
            return retriable(rng.choice((KafkaError.NOT_COORDINATOR, KafkaError._TIMED_OUT)))
        return must_abort(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)

    def _crash(self, chance: float) -> None:
        if chance and self._world.rng.random() < chance:
            self.faults += 1
            process = self._world.process
            self._world.kill(process)
            self.crashed.append(process)
            raise ProcessKilled
