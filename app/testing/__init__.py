"""For the unit tests of users: tasks that run at once, here, with their retries, and say what became of them.

    with eager(app) as runs:
        sign_up("ann@example.com")                     # the code under test; it enqueues
    assert runs[0].type == "send_mail"
    assert runs[0].result == "sent"
    assert runs[0].delays_s == (5.0,)                  # the first attempt failed, and nobody waited

`MemoryBroker` is a Kafka in memory, for code that talks to Kafka itself: topics, transactions and consumer groups with
the answers and errors of a real broker, and faults where a test wants them.

Invariant: nothing here connects to Kafka. A handler is run by the very part that a worker runs it by.
"""

from __future__ import annotations

from fairlane.testing.eager import eager
from fairlane.testing.memory import Faults, MemoryBroker
from fairlane.testing.run import Attempt, Run, Runs

__all__ = ["Attempt", "Faults", "MemoryBroker", "Run", "Runs", "eager"]
