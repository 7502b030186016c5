"""What a seed makes of a world: how large it is, what is sent, and how bad the weather is.

Invariant: everything is drawn from the seed's own random numbers, in one order.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from fairlane.consumer.batches import BatchPolicy
from fairlane.consumer.handlers import HeadOfLine
from fairlane.consumer.retry import RetryPolicy
from fairlane.topics.names import Lane, QueueNames, Tier
from simulation.network import Weather

NAMES = QueueNames("sim")
LOST_MAX = 3
RECORD_MAX_BYTES = 20_000
"""What the topic of statuses takes."""


@dataclass(frozen=True)
class Scenario:
    """One world.

    Attributes:
        workers: how many there are at first.
        tasks: how many are sent.
        send_s: over how long.
        storm_s: how long faults come.
        every_s: how long it is between two faults, on the mean.
        slow_s: how much longer the commits of some workers take, on the mean.
        skew_ms: how wrong a worker's clock may be.
        hot: the share of tasks with one and the same key.
        poison: the share that kill their worker.
        long_s: how long the longest handlers run.
        long: the share of those that run so long; the others are short.
        limit: how many of one type run at once in a worker; None is as many as there are slots.
        unfinished: what a map is sure to hold.
        span: over which span it holds any number.
        batch: how tasks of one type are gathered; None runs each by itself.
        head_records: how many finished records a task holds back before it is moved aside.
        huge: the share of tasks whose result is larger than its topic takes.
        refusing_s: for how long topics take no record at a time; 0 lets them take all.
        operator_s: how long it is between two acts of an operator, on the mean; 0 is that there is none.
        schedules: how many there are.
    """

    lanes: tuple[Lane, ...]
    tiers: tuple[Tier, ...]
    partitions: int
    workers: int
    concurrency: int
    tasks: int
    send_s: float
    storm_s: float
    every_s: float
    weather: Weather
    slow_s: float
    skew_ms: int
    hot: float
    poison: float
    garbage: float
    foreign: float
    delayed: float
    long_s: float
    long: float
    limit: int | None
    is_static: bool
    buffer_records: int
    revoke_grace_s: float
    unfinished: int
    span: int
    batch: BatchPolicy | None
    head_of_line: HeadOfLine
    head_records: int
    retry: RetryPolicy
    huge: float
    refusing_s: float
    operator_s: float = 0.0
    schedules: int = 0


def draw(rng: Random) -> Scenario:
    """The world of a seed."""
    size = rng.choices((1, 2, 5), (6, 3, 1))[0]
    bad = rng.choice((0.0, 1.0, 1.0, 3.0))
    send_s = rng.uniform(4, 15)
    return Scenario(
        lanes=tuple(
            Lane(NAMES.lane(level), level, weight)
            for level, weight in rng.choice((((5, 16), (3, 4), (1, 1)), ((5, 3), (4, 1)), ((3, 4),)))
        ),
        tiers=tuple(map(Tier.parse, rng.choice((("1s", "5s"), ("1s",), ("1s", "5s", "20s"))))),
        partitions=rng.choice((1, 2, 3, 4)) * size,
        workers=rng.randint(1, 4) * size,
        concurrency=rng.choice((1, 4, 10)),
        tasks=rng.randint(40, 150) * size,
        send_s=send_s,
        storm_s=send_s + rng.uniform(5, 20),
        every_s=rng.choice((0.5, 2.0, 6.0)),
        weather=Weather(
            latency_s=rng.choice((0.001, 0.004, 0.02)),
            errors=0.01 * bad,
            lost=0.004 * bad,
            fatal=0.001 * bad,
            gone=0.001 * bad,
            crashes=rng.choice((0.0, 0.0005, 0.002)),
        ),
        slow_s=rng.choice((0.0, 0.0, 0.5, 3.0)),
        skew_ms=rng.choice((0, 0, 50, 2_000)),
        hot=rng.choice((0.0, 0.0, 0.6)),
        poison=rng.choice((0.0, 0.0, 0.01)),
        garbage=rng.choice((0.0, 0.05)),
        foreign=rng.choice((0.0, 0.1)),
        delayed=rng.choice((0.0, 0.2)),
        long_s=rng.choice((0.1, 1.0, 8.0)),
        long=rng.choice((0.1, 0.02)),
        limit=rng.choice((None, None, 1, 2)),
        is_static=rng.random() < 0.3,
        buffer_records=rng.choice((50, 500)),
        revoke_grace_s=rng.choice((0.5, 5.0)),
        unfinished=rng.choice((4, 20)),
        span=rng.choice((10, 60)),
        batch=rng.choice((None, None, BatchPolicy(max_size=5, max_wait_s=0.3))),
        head_of_line=rng.choice(("move", "move", "show")),
        head_records=rng.choice((3, 9)),
        retry=RetryPolicy(max_attempts=rng.choice((1, 3, 5)), base_s=rng.choice((0.2, 1.0, 6.0)), max_s=20.0),
        huge=rng.choice((0.0, 0.0, 0.05)),
        refusing_s=rng.choice((0.0, 0.0, 4.0, 12.0)),
    )
