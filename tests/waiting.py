"""Waiting in tests: for a condition, never for a time.

Invariant: every wait has a deadline, and says what it waited for when that passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """Returns once `condition()` is true; fails with `what` after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(0.02)
