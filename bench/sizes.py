"""How large each workload is: in full, for QUICK=1, and for the smoke test that CI runs.

Invariant: the three do the same things. What is smaller than in full is told by name in the report (`scaled`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Final


@dataclass(frozen=True)
class Sizes:
    """Numbers of tasks unless the name says seconds.

    Attributes:
        repeats: how often everything is measured; the medians are quoted.
        tasks: no-op records that the raw loop, fairlane and Parallel Consumer's `poll` work on.
        traced: tasks whose spans are all exported.
        produce_and_poll: records of Parallel Consumer's `pollAndProduce`.
        faststream: of each peer in Python, so many that it works for some seconds.
        dramatiq: likewise.
        celery: likewise.
        rq: likewise.
        sync: no-op tasks of plain `def` handlers.
        waits: tasks of 50 ms of waiting.
        burns: tasks of 5 ms of CPU.
        enqueued: records that are enqueued in bulk.
        enqueued_one: tasks that are enqueued one after the other.
        probes: tasks whose way from enqueue to start is timed.
        backlog: what waits in the lanes for shares, backlog, and latency under load.
        bound: starts by which shares are counted while handlers are the limit.
        delayed: tasks whose lateness is measured, half of them retries.
        delay_s: how long the longest of those waits.
        far: delayed tasks that only wait while memory is measured.
        memory_s: how long memory is watched.
        held_every: in the test of a restart, one of so many tasks does not end.
        restart: tasks of the test of a restart: enough to fill the offset map of each of its partitions.
        restart_partitions: how many those are.
        fleet: workers of 10 tasks/s each, in processes of ten.
        fleet_s: how long they work.
    """

    repeats: int = 3
    tasks: int = 200_000
    traced: int = 40_000
    produce_and_poll: int = 20_000
    faststream: int = 10_000
    dramatiq: int = 20_000
    celery: int = 5_000
    rq: int = 2_000
    sync: int = 400_000
    waits: int = 10_000
    burns: int = 4_000
    enqueued: int = 200_000
    enqueued_one: int = 500
    probes: int = 500
    backlog: int = 1_000_000
    bound: int = 6_200
    delayed: int = 1_000
    delay_s: float = 8.0
    far: int = 100_000
    memory_s: float = 20.0
    held_every: int = 20
    restart: int = 90_000
    restart_partitions: int = 3
    fleet: int = 100
    fleet_s: float = 20.0


FULL: Final = Sizes()

QUICK: Final = replace(
    FULL,
    repeats=1,
    tasks=100_000,
    traced=10_000,
    produce_and_poll=5_000,
    faststream=3_000,
    dramatiq=4_000,
    celery=1_000,
    rq=300,
    sync=50_000,
    burns=600,
    enqueued=50_000,
    enqueued_one=200,
    probes=200,
    backlog=100_000,
    bound=3_100,
    delayed=400,
    delay_s=4.0,
    far=10_000,
    memory_s=8.0,
    restart=30_000,
    restart_partitions=1,
    fleet=40,
    fleet_s=8.0,
)

SMOKE: Final = replace(
    QUICK,
    tasks=500,
    traced=200,
    sync=500,
    waits=500,
    burns=50,
    enqueued=500,
    enqueued_one=5,
    probes=20,
    backlog=3_000,
    bound=310,
    delayed=40,
    delay_s=1.5,
    far=200,
    memory_s=1.5,
    held_every=4,
    restart=6_000,
    fleet=10,
    fleet_s=2.0,
)


def scaled(sizes: Sizes) -> dict[str, dict[str, float]]:
    """What is smaller than in a full run: `{"backlog": {"here": 100000, "full": 1000000}}`."""
    full = asdict(FULL)
    return {name: {"here": here, "full": full[name]} for name, here in asdict(sizes).items() if here != full[name]}
