"""The worker on virtual time: many worlds with crashes, zombies and rebalances, and faults put into it on purpose.

`make simulate SEEDS=1000` goes on where this ends, and `make simulate SEED=17` plays a world again.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from simulation.lanes import Lanes
from simulation.many import MUTATION_SEEDS
from simulation.mutations import MUTATIONS, Mutation
from simulation.run import Run
from simulation.scenario import draw

from fairlane.topics.names import Lane

SEEDS = 12


def test_in_every_world_each_task_has_one_end_and_nothing_is_lost_early_starved_or_stuck() -> None:
    broken = [result.violation for seed in range(SEEDS) if (result := Run(seed).run()).kind]
    assert broken == []


def test_a_slow_settler_rewinds_nobodys_offsets_while_workers_join() -> None:
    """The schedule that gave 600 outcomes for 400 records before there was a lease."""
    for seed in range(3):
        world = replace(draw(Random(seed)), slow_s=2.0, every_s=0.5, partitions=4, workers=3)
        result = Run(seed, world).run()
        assert result.violation == ""


def test_an_operator_pauses_and_cancels_and_nothing_is_lost_or_starts_all_the_same() -> None:
    cancelled = 0
    for seed in range(5):
        result = Run(seed, replace(draw(Random(seed)), operator_s=0.4, tasks=120)).run()
        assert result.violation == ""
        cancelled += result.reasons.get("by sim", 0)
    assert cancelled > 0


def test_each_instant_of_a_schedule_is_a_task_once_whoever_owns_it_dies_or_comes_late() -> None:
    fired = 0
    for seed in range(8):
        world = replace(draw(Random(seed)), schedules=6, tasks=20, every_s=0.5, workers=3, operator_s=0.0)
        result = Run(seed, world).run()
        assert result.violation == ""
        fired += result.scheduled
    assert fired > 500


def test_what_is_moved_aside_while_it_runs_has_one_end_too() -> None:
    moved = 0
    for seed in range(3, 7):
        one_lane = draw(Random(seed)).lanes[:1]
        world = replace(
            draw(Random(seed)),
            lanes=one_lane,
            tasks=300,
            send_s=15.0,
            partitions=3,
            concurrency=10,
            long_s=8.0,
            long=0.03,
            hot=0.0,
            head_of_line="move",
            head_records=3,
            unfinished=20,
            span=60,
            buffer_records=500,
        )
        result = Run(seed, world).run()
        assert result.violation == ""
        moved += result.moved
    assert moved > 0


def test_a_world_with_a_hundred_workers_holds_too() -> None:
    world = replace(draw(Random(1)), workers=100, partitions=100, tasks=200, send_s=2.0, storm_s=4.0, every_s=0.3)
    result = Run(1, world).run()
    assert result.violation == ""
    assert result.workers >= 100


def test_a_seed_plays_again_exactly() -> None:
    first, again = Run(7).run(), Run(7).run()
    assert first == again
    assert first.commits > 0
    assert Run(8).run().digest != first.digest


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace(" ", "_"))
def test_a_fault_that_is_put_in_on_purpose_is_seen(mutation: Mutation) -> None:
    caught = mutation.caught(0, MUTATION_SEEDS)
    assert caught is not None, f"not seen in {MUTATION_SEEDS} worlds"
    _, result = caught
    assert result.kind in mutation.kinds, result.violation


def test_the_count_of_starvation_bears_the_bound_and_no_more() -> None:
    """Weights 2 and 1: two of the urgent lane may come before one of the other, and two more if it came first."""
    lanes = Lanes([Lane("p5", 5, 2), Lane("p1", 1, 1)])
    lanes.took({"p5": 9, "p1": 1}, ["p5"] * 4)
    assert lanes.starved is None
    lanes.took({"p5": 5, "p1": 1}, ["p5"])
    assert lanes.starved is not None
