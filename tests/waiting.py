"""Waiting in tests: for a condition, never for a time.

Invariant: every wait has a deadline, and says what it waited for when that passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

WAIT_S: Final = 90.0
"""How long a test waits for what takes a moment: what a machine has to do besides must never fail a test."""


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    """Returns once `condition()` is true; fails with `what` after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(0.02)
