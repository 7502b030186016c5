"""How hard the property tests try, and with which examples.

Invariant: `make test` is a gate, so it tries the same examples in each run, whatever else has changed. Exploring is
left to `make fuzz`: FAIRLANE_EXAMPLES=10 tries ten times as many, drawn anew in each run (give pytest `--timeout=0`
with it, since the limit of a test is set for one). `make fuzz SEED=N` plays a run again; so does
`pytest --hypothesis-seed=N`, and the blob that a failure prints plays it alone (`@reproduce_failure`).
"""

from __future__ import annotations

import os
import random

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

EXAMPLES = os.environ.get("FAIRLANE_EXAMPLES")
FACTOR = float(EXAMPLES or 1)


def load_profile(*, seeded: bool) -> None:
    """Make the settings of all property tests; `seeded` if somebody has given pytest the seed of a run."""
    gate = EXAMPLES is None and not seeded
    if gate:
        # Hypothesis draws from the constants of all modules that are loaded: any edit anywhere, or another selection of
        # tests, would try other examples.
        providers._get_local_constants = Constants
    settings.register_profile(
        "gate" if gate else "explore",
        derandomize=gate,
        max_examples=round(100 * FACTOR),
        # How long an example may take depends on what else the machine does.
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )
    settings.load_profile("gate" if gate else "explore")


def thorough(examples: int, *, steps: int = 50) -> settings:
    """Settings of a property test with so many examples, of so many steps where it is stateful."""
    return settings(max_examples=max(1, round(examples * FACTOR)), stateful_step_count=steps)


def seed_of_dice() -> int:
    """The seed of a test that throws its own dice: FAIRLANE_SEED, or the same in each run of the gate."""
    return int(os.environ.get("FAIRLANE_SEED") or (17 if EXAMPLES is None else random.randrange(1_000_000)))
