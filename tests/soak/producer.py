"""The producer of the soak, a process of its own: enqueues every kind of task at a steady rate until SIGTERM.

Invariant: what it says in its file was acknowledged by Kafka, and it keeps nothing of it: whatever grows in this
process is fairlane's doing. So many results come back to it that what it remembers of them is full early.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from fairlane import Call
from fairlane.topics import tracing_setup
from soak import tasks

ROUND_S: Final = 0.25

_makers: tuple[tuple[int, Callable[[int], Call[Any]]], ...] = (
    (8, lambda number: tasks.quick.options(reply=True).call(number)),
    (4, lambda number: tasks.waiting.options(key=f"customer-{number % 100}").call(number)),
    (3, lambda number: tasks.blocking.call(number)),
    (2, lambda number: tasks.adaptive.options(expires_s=600).call(number)),
    (2, lambda number: tasks.flaky.call(number)),
    (1, lambda number: tasks.dead.call(number)),
    (1, lambda number: tasks.apart.call(number)),
    (4, lambda number: tasks.many.call(number)),
    (2, lambda number: tasks.order.options(timeout_s=60).call(number)),
)
SHARES: Final = [make for share, make in _makers for _ in range(share)]
"""One maker of a call for each part of the load; a delayed task comes to it."""


def calls(numbers: Sequence[int], delays_s: Sequence[float]) -> list[Call[Any]]:
    """One round of tasks."""
    found = []
    for number in numbers:
        kind = number % (len(SHARES) + 1)
        if kind < len(SHARES):
            found.append(SHARES[kind](number))
        else:
            later = tasks.delayed.options(delay_s=delays_s[number // (len(SHARES) + 1) % len(delays_s)])
            found.append(later.call(number))
    return found


def run(rate: float, delays_s: Sequence[float], acknowledged: Path, ended: threading.Event) -> None:
    """Enqueue until `ended` is set.

    Args:
        rate: tasks a second.
        delays_s: of the delayed tasks, one after the other.
        acknowledged: the file that gets `topic/partition/offset` of each, a line each.
        ended: once it is set, the last round is over.
    """
    numbers = count()
    began = time.monotonic()
    with acknowledged.open("a", buffering=1 << 16) as file, tasks.app as app:
        for turn in count(1):
            handles = app.enqueue_many(calls([next(numbers) for _ in range(round(rate * ROUND_S) - 1)], delays_s))
            answered = tasks.quick.options(reply=True).enqueue(turn)
            if answered.result(timeout_s=60) != turn:
                raise SystemExit(f"the result of task {turn} is that of another")
            for handle in (*handles, answered):
                file.write(f"{handle.topic}/{handle.partition}/{handle.offset}\n")
            file.flush()
            # What came late is not made up for: the load is steady.
            if ended.wait(max(0.0, began + turn * ROUND_S - time.monotonic())):
                return
            began = max(began, time.monotonic() - turn * ROUND_S - ROUND_S)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m soak.producer")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--delays", required=True)
    parser.add_argument("--acknowledged", type=Path, required=True)
    asked = parser.parse_args()
    logging.basicConfig()
    tracing_setup.configure()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    run(asked.rate, [float(delay) for delay in asked.delays.split(",")], asked.acknowledged, ended)
    tracing_setup.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
