"""A load without end, for a queue that runs elsewhere: `fairlane demo --stream`.

Invariant: whatever was enqueued is in Kafka; a Kafka that is away for a while is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Final

from fairlane.demo.load import stream
from fairlane.demo.tasks import app
from fairlane.topics import tracing_setup
from fairlane.topics.errors import EnqueueUncertain, KafkaUnreachable

_SAY_EVERY_S: Final = 10.0
_AGAIN_S: Final = 1.0


def run(per_s: float, say: Callable[[str], None]) -> None:
    """Enqueue about so many tasks a second until interrupted, and say every ten seconds how many there are."""
    tracing_setup.configure()
    never, enqueued, next_s = Event(), 0, time.monotonic() + _SAY_EVERY_S
    say(f"enqueuing about {per_s:g} tasks a second in queue {app.queue} at {app.connection.bootstrap}")
    try:
        while True:
            try:
                for _ in stream(per_s, never):
                    enqueued += 1
                    if time.monotonic() >= next_s:
                        say(f"{enqueued} tasks enqueued")
                        next_s = time.monotonic() + _SAY_EVERY_S
            except (KafkaUnreachable, EnqueueUncertain) as error:
                say(str(error))
                never.wait(_AGAIN_S)
    finally:
        app.close()
        tracing_setup.shutdown()
