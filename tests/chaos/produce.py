"""A producer process of the storm: enqueues tasks until it is told to stop, and writes down what was acknowledged.

Invariant: a task is in the file of acknowledged ones only after Kafka has acknowledged it, with its place where that is
known; one that is uncertain is sent again, under the same id, until it is.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from typing import Any, Final

import msgspec

from chaos.accounts import Acknowledged
from chaos.tasks import WEIGHTS, app, delayed
from fairlane import Call
from fairlane.topics.errors import FairlaneError, SomeNotEnqueued

PAUSE_S: Final = 0.5


class Producing:
    """The tasks of one process.

    Args:
        name: of the process, in the ids of its tasks.
        per_s: tasks a second.
        seed: of what is enqueued.
    """

    def __init__(self, name: str, per_s: float, seed: int) -> None:
        self._name = name
        self._per_s = per_s
        self._dice = random.Random(seed)
        self._count = 0
        self._file = os.open(f"{os.environ['CHAOS_RUNS']}/{name}.acks", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._stopping = threading.Event()

    def stop(self, *_: object) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            calls = dict(self._call() for _ in range(self._dice.choice((1, 1, 1, 5, 20, 60))))
            began = time.monotonic()
            self._enqueue(calls)
            self._stopping.wait(max(0.0, len(calls) / self._per_s - (time.monotonic() - began)))

    def _call(self) -> tuple[str, Call[Any]]:
        self._count += 1
        (task,) = self._dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
        task_id = f"{self._name}-{self._count}-{task.type}"
        options: dict[str, Any] = {"id": task_id, "priority": self._dice.randint(1, 5)}
        if task is delayed:
            options["delay_s"] = self._dice.choice((0.3, 2.0, 4.0, 8.0, 13.0))
        elif self._dice.random() < 0.2:
            options["key"] = f"k{self._dice.randrange(50)}"
        bound: Any = task.options(**options)
        number = self._dice.randrange(1_000)
        return task_id, bound.call(number)

    def _enqueue(self, calls: dict[str, Call[Any]]) -> None:
        """Until all have arrived, also when told to stop: somebody counts on them."""
        while calls:
            try:
                handles = app.enqueue_many(calls.values())
            except SomeNotEnqueued as error:
                self._write(*(self._acknowledged(task_id) for task_id in error.arrived))
                calls = {task_id: calls[task_id] for task_id, _ in error.errors}
                print(error, flush=True)
            except FairlaneError as error:
                print(f"{type(error).__name__}: {error}", flush=True)
            else:
                self._write(
                    *(self._acknowledged(each.id, f"{each.topic}/{each.partition}/{each.offset}") for each in handles)
                )
                return
            time.sleep(PAUSE_S)

    def _acknowledged(self, task_id: str, origin: str = "") -> Acknowledged:
        return Acknowledged(time.time(), task_id, task_id.rpartition("-")[2], origin)

    def _write(self, *acknowledged: Acknowledged) -> None:
        os.write(self._file, b"".join(msgspec.json.encode(each) + b"\n" for each in acknowledged))


def main() -> None:
    """The command line: NAME, tasks a second, seed."""
    name, per_s, seed = sys.argv[1:]
    producing = Producing(name, float(per_s), int(seed))
    signal.signal(signal.SIGTERM, producing.stop)
    print(f"working on queue {app.queue}", flush=True)
    producing.run()
    app.close()


if __name__ == "__main__":
    main()
