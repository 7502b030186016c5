"""One broker process: its command line, its start, its end.

Invariant: a broker is stopped by the mark of its own process and nothing else; it is asked before it is killed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fairlane.kafka import broker_log, processes
from fairlane.kafka.errors import BrokerDied, BrokerStuck
from fairlane.kafka.jars import Distribution
from fairlane.kafka.java import Java
from fairlane.kafka.processes import ProcessMark
from fairlane.kafka.properties import ClusterShape, Node
from fairlane.kafka.storage import properties_path

_HEAP_MB: Final = {1: 768, 2: 512}
_HEAP_MB_OF_MANY: Final = 512
_KILL_WAIT_S: Final = 10.0
_NO_MAJORITY_S: Final = 3.0
_WARNS_SINCE: Final = 24


@dataclass(frozen=True)
class Runtime:
    """What every broker runs on.

    Attributes:
        distribution: the jars.
        java: the Java.
        archive: a file that starts Java faster; `flags` name it.
        flags: further flags for Java.
    """

    distribution: Distribution
    java: Java
    archive: Path | None = None
    flags: tuple[str, ...] = ()

    def without_archive(self) -> Runtime:
        """The same, started in the ordinary way."""
        return replace(self, archive=None, flags=())


def command(runtime: Runtime, shape: ClusterShape, node: Node, log_path: Path) -> list[str]:
    """The command line of a broker."""
    return [
        str(runtime.java.path),
        f"-Xmx{_HEAP_MB.get(len(shape.nodes), _HEAP_MB_OF_MANY)}m",
        *java_flags(runtime.java),
        *runtime.flags,
        f"-XX:ErrorFile={shape.data_dir / f'broker-{node.id}.crash'}",
        f"-Dlog4j2.configurationFile={shape.data_dir / 'log4j2.properties'}",
        f"-Dfairlane.log={log_path}",
        "-cp",
        ":".join(str(path) for path in runtime.distribution.class_path),
        "kafka.Kafka",
        str(properties_path(shape, node)),
    ]


def java_flags(java: Java) -> list[str]:
    """Flags for `java`, the same for every broker: those that started it fastest, and some that keep it quiet."""
    flags = [
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        # Java's remarks about itself would stand where people look for what went wrong.
        "-Xlog:disable",
        "-Xlog:all=error",
    ]
    if java.major >= _WARNS_SINCE:
        # Kafka's libraries are native (JEP 472) and use Unsafe (JEP 498), which newer Javas remark on.
        flags += ["--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow"]
    return flags


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a broker: `environ`, with a locale in which Java can open a file of any name."""
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG") or "C"
    if "utf" in locale.lower():
        return dict(environ)
    return {**environ, "LC_ALL": "C.UTF-8"}


class Broker:
    """A broker of `shape`, running or not; `mark` is its process, also one that an earlier program started."""

    def __init__(self, runtime: Runtime, shape: ClusterShape, node: Node, mark: ProcessMark | None = None) -> None:
        self._runtime = runtime
        self._shape = shape
        self.node = node
        self.mark = mark
        self.log_path = shape.data_dir / f"broker-{node.id}.log"
        self._output_path = shape.data_dir / f"broker-{node.id}.out"
        self._log_offset = 0

    def is_alive(self) -> bool:
        """True while its process runs."""
        return self.mark is not None and processes.is_alive(self.mark)

    def start(self, process_group: int | None) -> None:
        """Starts the process, in `process_group` or, for None, in a session of its own."""
        self._log_offset = broker_log.size_of(self.log_path)
        (self._shape.data_dir / "log4j2.properties").write_text(broker_log.LOG4J2)
        argv = command(self._runtime, self._shape, self.node, self.log_path)
        self.mark = processes.spawn(
            argv, self._output_path, process_group=process_group, environ=environment(os.environ)
        )

    def log_since_start(self) -> str:
        """What Java and the broker wrote since the start."""
        output = broker_log.read_since(self._output_path, 0)
        return output + broker_log.read_since(self.log_path, self._log_offset)

    def exit_status(self) -> int | None:
        """How its process ended, as far as this program can know."""
        return processes.exit_status(self.mark) if self.mark else None

    def died(self) -> BrokerDied:
        """The error that says how it died."""
        status = self.exit_status()
        return BrokerDied(self.node.id, status, str(self.log_path), broker_log.tail(self.log_since_start()))

    def stop(self, grace_s: float) -> None:
        """As `end_brokers`, for this one."""
        if self.mark is not None:
            end_brokers({self.node.id: self.mark}, grace_s)


def end_brokers(marks: Mapping[int, ProcessMark], grace_s: float) -> None:
    """Asks the processes of these brokers to end (SIGTERM), and kills after `grace_s` seconds those that have not.

    A grace of 0 kills at once, as a crash would. Of several, the last ones get at most three seconds once the others
    are gone: without a majority of controllers, a broker waits for an answer that cannot come.

    Raises:
        BrokerStuck: not even that ended one.
    """
    deadline = time.monotonic() + grace_s
    first = signal.SIGTERM if grace_s > 0 else signal.SIGKILL
    for mark in marks.values():
        processes.send(mark, first)
    if len(marks) > 1 and processes.wait_until_left(marks.values(), len(marks) // 2, grace_s):
        deadline = min(deadline, time.monotonic() + _NO_MAJORITY_S)
    for mark in marks.values():
        if not processes.wait_until_gone(mark, max(0.0, deadline - time.monotonic())):
            processes.send(mark, signal.SIGKILL)
    for broker_id, mark in marks.items():
        if not processes.wait_until_gone(mark, _KILL_WAIT_S):
            raise BrokerStuck(broker_id, mark.pid, _KILL_WAIT_S)
