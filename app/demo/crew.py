"""The workers of the demo: processes of their own, started by the command that anybody would type.

Invariant: when the block ends, by whatever, none of them runs; and if this program is killed, they are too.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fairlane.demo.errors import WorkerFailed
from fairlane.kafka.guarded import guarded_group

COMMAND: Final = ("worker", "fairlane.demo.tasks:app", "--workers", "5")
_LOG_LINES: Final = 15


@dataclass(frozen=True)
class Hand:
    """A worker process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def log_end(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


class Crew:
    """Some workers that run."""

    def __init__(self, hands: tuple[Hand, ...]) -> None:
        self.hands = hands

    def check(self) -> None:
        """See that all of them still run.

        Raises:
            WorkerFailed: one does not.
        """
        for hand in self.hands:
            status = hand.process.poll()
            if status is not None:
                raise WorkerFailed(hand.name, status, hand.log_end())

    def stop(self, timeout_s: float) -> dict[str, int | None]:
        """Ask them to end in good order (SIGTERM), and return the exit code of each; None where one did not in time."""
        for hand in self.hands:
            hand.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        codes: dict[str, int | None] = {}
        for hand in self.hands:
            try:
                codes[hand.name] = hand.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                codes[hand.name] = None
        return codes


@contextmanager
def workers(count: int, scratch: Path, environ: Mapping[str, str]) -> Iterator[Crew]:
    """So many worker processes, which log to `scratch` and are killed at the latest when the block ends.

    Args:
        count: how many.
        scratch: a directory; removed if this program is killed.
        environ: their environment.
    """
    with guarded_group([scratch]) as group, ExitStack() as ends:
        hands = []
        for number in range(1, count + 1):
            hand = _start(f"worker-{number}", scratch, environ, group)
            ends.callback(_kill, hand.process)
            hands.append(hand)
        yield Crew(tuple(hands))


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _start(name: str, scratch: Path, environ: Mapping[str, str], group: int) -> Hand:
    log = scratch / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fairlane", *COMMAND, "--name", name],
            cwd=scratch,
            env={**environ, "OTEL_SERVICE_NAME": name, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=group,
        )
    return Hand(name, process, log)
