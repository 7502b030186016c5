"""How hard the property tests try. FAIRLANE_EXAMPLES=20 tries twenty times as many examples; give
pytest `--timeout=0` with it, since the limit of a test is set for one.

A failure prints the blob that plays it again (`@reproduce_failure`); a whole run is played again with
`pytest --hypothesis-seed=N`, and pytest prints N with the failure.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = float(os.environ.get("FAIRLANE_EXAMPLES", "1"))


def thorough(examples: int, *, steps: int = 50) -> settings:
    """Settings of a property test with so many examples, of so many steps where it is stateful."""
    return settings(
        max_examples=max(1, round(examples * FACTOR)),
        stateful_step_count=steps,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )
