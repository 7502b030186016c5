"""The processes of the storm that are not brokers: workers and producers, each start under a name of its own.

Invariant: a process that ends without having been told to is noted as a failure of fairlane's; all end with this
program, however it ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chaos.brokers import CLIENT
from fairlane.topics.names import QueueNames

TESTS: Final = Path(__file__).resolve().parent.parent
CONCURRENCY: Final = 20
GRACE_S: Final = 5.0
LEAVE_S: Final = 60.0
"""How long one that was told to leave may take: its grace, and what a broker that is away costs."""
BEGUN: Final = "working on queue"
UNSETTLED: Final = "could not settle everything"
"""What a worker says, and ends with 1, that leaves while no broker takes its outcomes."""
GRACE_EXCEEDED: Final = 6
KAFKA_UNREACHABLE: Final = 3
_LOG_TAIL: Final = 1_500


@dataclass
class Member:
    """One process: what it is, and what was done to it."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    left_at: float | None = None
    killed: bool = False
    frozen: bool = False

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    @property
    def ended_well(self) -> bool:
        """Whether it was told to end, and did in good order; or had not begun, and found no Kafka or no patience."""
        code = self.process.returncode
        if not self.has_begun:
            return code == KAFKA_UNREACHABLE or (self.left_at is not None and code in (0, -signal.SIGTERM))
        unsettled = code == 1 and UNSETTLED in self.log.read_text(errors="replace")
        return self.left_at is not None and (code in (0, GRACE_EXCEEDED) or unsettled)

    @property
    def has_begun(self) -> bool:
        """Whether it got as far as to say so: from then on it handles signals."""
        return BEGUN in self.log.read_text(errors="replace")

    @property
    def stands(self) -> bool:
        """It runs, and nothing has been done to it yet."""
        return self.runs and not (self.killed or self.frozen) and self.left_at is None


@dataclass
class Crew:
    """The workers and producers of one queue.

    Attributes:
        bootstrap: where they find Kafka.
        names: of the queue.
        folder: of their logs and of what they write down.
        group: process group that ends with this program.
        per_s: tasks a second of each producer.
        seed: of what producers enqueue.
        say: told of failures, in a line.
    """

    bootstrap: str
    names: QueueNames
    folder: Path
    group: int
    per_s: float
    seed: int
    say: Callable[[str], None]
    workers: list[Member] = field(default_factory=list)
    producers: list[Member] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _starts: int = 0

    def start_worker(self) -> Member:
        # -P: nothing in the current directory may pass for fairlane.
        command = [sys.executable, "-P", "-m", "fairlane", "worker", "chaos.tasks:app"]
        command += ["--workers", str(CONCURRENCY), "--grace", str(GRACE_S)]
        self._starts += 1
        name = f"w{self._starts}"
        self.workers.append(self._start(name, [*command, "--name", name]))
        return self.workers[-1]

    def start_producer(self) -> Member:
        self._starts += 1
        name = f"p{self._starts}"
        command = [sys.executable, "-P", "-m", "chaos.produce", name, str(self.per_s), str(self.seed + self._starts)]
        self.producers.append(self._start(name, command))
        return self.producers[-1]

    def _start(self, name: str, command: list[str]) -> Member:
        env = {
            **os.environ,
            "PYTHONPATH": str(TESTS),
            "CHAOS_QUEUE": self.names.queue,
            "CHAOS_WORKER": name,
            "CHAOS_RUNS": str(self.folder),
            "FAIRLANE_QUEUE_URL": f"kafka://{self.bootstrap}/{self.names.queue}",
            "FAIRLANE_ENQUEUE_TIMEOUT_S": "8",
            **{f"FAIRLANE_KAFKA__{name.upper().replace('.', '_')}": value for name, value in CLIENT.items()},
        }
        path = self.folder / f"{name}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                process_group=self.group,
            )  # fmt: skip
        return Member(name, process, path)

    def kill(self, member: Member) -> None:
        member.killed = True
        member.process.kill()

    def freeze(self, member: Member) -> None:
        member.frozen = True
        member.process.send_signal(signal.SIGSTOP)

    def thaw(self, member: Member) -> None:
        member.frozen = False
        if member.runs:
            member.process.send_signal(signal.SIGCONT)

    def leave(self, member: Member) -> None:
        member.left_at = time.monotonic()
        member.process.terminate()

    def look(self, now: float) -> None:
        """Bury who has ended, and note who should not have, or does not end."""
        for members in (self.workers, self.producers):
            for member in [each for each in members if not each.runs]:
                members.remove(member)
                code = member.process.returncode
                if not member.killed and not member.ended_well:
                    self._fail(member, f"{'ended by itself' if member.left_at is None else 'left'} with {code}")
            for member in members:
                if member.left_at is not None and not member.killed and now - member.left_at > LEAVE_S:
                    self._fail(member, f"does not end within {LEAVE_S:g} s of SIGTERM")
                    self.kill(member)

    def _fail(self, member: Member, what: str) -> None:
        tail = member.log.read_text(errors="replace")[-_LOG_TAIL:]
        self.failures.append(f"{member.name} {what}; the end of {member.log}:\n{tail}")
        self.say(f"FAILURE: {member.name} {what}")

    def kill_all(self) -> None:
        for member in [*self.workers, *self.producers]:
            member.process.kill()
            member.process.wait(10)
