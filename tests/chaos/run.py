"""A storm from its beginning to its end: cluster, queue, crew, faults, calm, accounts.

Invariant: the accounts are made when nobody works any more, of all that Kafka has.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from waiting import wait_until

from chaos.accounts import Acknowledged, Evidence, Run, settle_accounts
from chaos.brokers import ProxiedBrokers, proxied_brokers
from chaos.crew import LEAVE_S, Crew
from chaos.follower import Follower
from chaos.report import Report
from chaos.storm import Storm
from chaos.tasks import CHILD, FAILS, parent
from fairlane.kafka.guarded import guarded_group
from fairlane.topics.admin import TopicAdmin
from fairlane.topics.connection import Connection
from fairlane.topics.names import QueueNames
from fairlane.topics.topology import Topology

WORKERS: Final = 4
PRODUCERS: Final = 2
PER_S: Final = 40.0
"""Tasks a second of each producer."""
PARTITIONS: Final = 4
FIRST_OUTCOME_S: Final = 60.0
SYNC_S: Final = 90.0
DRAIN_S: Final = 300.0
"""Nothing is left to do within this, once all is mended: the longest delays and retries take 20 s of it, and
what may have killed its worker twice runs alone."""
T = TypeVar("T")


def chaos(minutes: float, seed: int, folder: Path, say: Callable[[str], None] = print) -> Report:
    """One storm.

    Args:
        minutes: how long faults are injected; the calm after it comes on top.
        seed: of the faults and the tasks.
        folder: of the logs and of what processes write down; emptied first.
        say: told what happens, in lines.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = QueueNames("chaos")
    say(f"chaos: {minutes:g} minutes, seed {seed}; again: make chaos MINUTES={minutes:g} SEED={seed}")
    with ExitStack() as ends:
        data = Path(
            ends.enter_context(tempfile.TemporaryDirectory(prefix="fairlane-chaos-", ignore_cleanup_errors=True))
        )
        group = ends.enter_context(guarded_group([data]))
        brokers = ends.enter_context(proxied_brokers(data / "brokers", group, say))
        TopicAdmin(Connection(brokers.direct), timeout_s=60).create(
            Topology.of(names, partitions=PARTITIONS, replication=3)
        )
        follower = Follower(brokers.direct, names)
        ends.callback(follower.stop)
        crew = Crew(brokers.proxied, names, folder, group, PER_S, seed, say)
        ends.callback(crew.kill_all)
        storm = Storm(brokers, crew, names, seed=seed, workers=WORKERS, producers=PRODUCERS, say=say)
        storm.keep()
        wait_until(lambda: follower.events, "the first outcome", FIRST_OUTCOME_S)
        storm.run(60 * minutes)
        return _account(minutes, seed, storm, crew, follower, brokers, folder, say)


def _account(
    minutes: float,
    seed: int,
    storm: Storm,
    crew: Crew,
    follower: Follower,
    brokers: ProxiedBrokers,
    folder: Path,
    say: Callable[[str], None],
) -> Report:
    say("all is mended; producers end")
    mended = time.monotonic()
    storm.calm()
    for producer in crew.producers:
        crew.leave(producer)
    _while(lambda: not crew.producers, storm, LEAVE_S + 30)
    loaded_until = time.time()
    wait_until(brokers.in_sync, "three brokers in sync", SYNC_S)
    say("the queue drains")
    drained = _while(lambda: follower.lag() == {}, storm, DRAIN_S)
    drained_s = round(time.monotonic() - mended, 1) if drained else None
    for worker in crew.workers:
        crew.leave(worker)
    deadline = time.monotonic() + LEAVE_S + 30
    while crew.workers and time.monotonic() < deadline:
        crew.look(time.monotonic())
        time.sleep(0.2)
    if not drained:
        crew.failures.append(f"the queue did not drain within {DRAIN_S:g} s; left: {follower.lag()}")
    follower.read_to_end()
    if follower.jumps or follower.read_late:
        say(f"{follower.read_late} events came only when the topic was read again, {follower.jumps} jumps prevented")
    stored, waiting = follower.stored()
    evidence = Evidence(
        acknowledged=list(_lines(folder, "acks", Acknowledged)),
        stored=stored,
        waiting=waiting,
        events=follower.events,
        letters=follower.letters(),
        runs=list(_lines(folder, "runs", Run)),
        faults=storm.faults,
        loaded_until=loaded_until,
    )
    (folder / "evidence.json").write_bytes(msgspec.json.encode(evidence))
    accounts = settle_accounts(evidence, FAILS, parent.type, CHILD)
    return Report(seed, minutes, accounts, storm.faults, drained_s, crew.failures)


def _while(condition: Callable[[], object], storm: Storm, timeout_s: float) -> bool:
    """Wait for a condition, and keep the crew meanwhile; False if it does not come in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        storm.keep()
        time.sleep(0.2)
    return True


def _lines(folder: Path, suffix: str, kind: type[T]) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    for path in sorted(folder.glob(f"*.{suffix}")):
        for line in path.read_bytes().splitlines():
            # Linux ends a write at the bounds of a page when the process is killed meanwhile.
            with suppress(msgspec.DecodeError):
                yield decoder.decode(line)
