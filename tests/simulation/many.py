"""Many worlds, each from a seed; then the mutations, each of which some world must see; and the report of both.

Invariant: it is no success if any invariant was violated, or any mutation was not seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec

from simulation.mutations import MUTATIONS
from simulation.run import Result, Run

MUTATION_SEEDS = 200
"""Most are seen in one of the first worlds; two rebalances in a row during one settlement come in one of twenty."""
CHUNK = 5


def simulate(seed: int) -> Result:
    """One world."""
    return Run(seed).run()


def mutate(place: int) -> int | None:
    """How many worlds it took until a mutation was seen; None if so many did not see it."""
    caught = MUTATIONS[place].caught(0, MUTATION_SEEDS)
    return caught[0] if caught is not None and caught[1].kind in MUTATIONS[place].kinds else None


def replay(seed: int) -> int:
    """One world again, with all that its workers log."""
    result = Run(seed, log=print).run()
    print(msgspec.json.format(msgspec.json.encode(result)).decode())
    return 1 if result.kind else 0


def many(first: int, seeds: int, processes: int, out: Path) -> int:
    """Many worlds, and the mutations."""
    began = time.monotonic()
    results: list[Result] = []
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for result in pool.map(simulate, range(first, first + seeds), chunksize=CHUNK):
            results.append(result)
            if result.kind:
                print(f"seed {result.seed}: {result.violation}\n  again: make simulate SEED={result.seed}", flush=True)
            elif len(results) % 100 == 0:
                print(f"{len(results)} worlds", flush=True)
        taken = list(pool.map(mutate, range(len(MUTATIONS))))
    violated = [result for result in results if result.kind]
    report = _report(results, taken, time.monotonic() - began)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    print(
        f"{len(results)} worlds, {report['virtual_s']:,.0f} s of their time in {report['took_s']} s: "
        f"{report['tasks']:,} tasks, {report['commits']:,} transactions, {report['faults']:,} faults, "
        f"{len(violated)} violations"
    )
    for mutation, number in zip(MUTATIONS, taken, strict=True):
        seen = f"seen in world {number}" if number is not None else f"NOT SEEN in {MUTATION_SEEDS} worlds"
        print(f"  {mutation.name}: {seen}")
    return 1 if violated or None in taken else 0


def _report(results: Sequence[Result], taken: Sequence[int | None], took_s: float) -> dict[str, Any]:
    return {
        "seeds": len(results),
        "first": results[0].seed if results else 0,
        "steps": sum(result.steps for result in results),
        "virtual_s": round(sum(result.virtual_s for result in results), 1),
        "took_s": round(took_s, 1),
        "workers": sum(result.workers for result in results),
        "tasks": sum(result.origins for result in results),
        "commits": sum(result.commits for result in results),
        "faults": sum(result.faults for result in results),
        "violations": sum(1 for result in results if result.kind),
        "violated": [{"seed": result.seed, "what": result.violation} for result in results if result.kind],
        "mutations": len(taken),
        "mutations_caught": sum(1 for number in taken if number is not None),
        "seeds_until_caught": {each.name: number for each, number in zip(MUTATIONS, taken, strict=True)},
    }
