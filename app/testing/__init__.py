"""For the unit tests of users: tasks that run at once, here, with their retries, and say what became of them.

    with eager(app) as runs:
        sign_up("ann@example.com")                     # the code under test; it enqueues
    assert runs[0].type == "send_mail"
    assert runs[0].result == "sent"
    assert runs[0].delays_s == (5.0,)                  # the first attempt failed, and nobody waited

Invariant: nothing here connects to Kafka. A handler is run by the very part that a worker runs it by.
"""

from __future__ import annotations

from fairlane.testing.eager import eager
from fairlane.testing.run import Attempt, Run, Runs

__all__ = ["Attempt", "Run", "Runs", "eager"]
