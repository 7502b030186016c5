"""The supervisor: starts the worker processes of a pool, starts dead ones again, and ends with all of them.

Invariant: it decides nothing itself, `consumer.restarts` does; it ends only when none of its processes runs, and if it
is killed they end by themselves, since the line to them ends (`supervised`). All happens on the main thread, fed by a
queue; the threads of a process only wait for it and read what it writes.
"""

from __future__ import annotations

import logging
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

from fairlane.consumer.restarts import Command, EndNow, PoolState, RestartPolicy, Start, Terminate, named
from fairlane.logs import LogFormat
from fairlane.slot_log import SlotLog
from fairlane.supervised import WORKING

_logger = logging.getLogger("fairlane.supervisor")

DRAIN_MORE_S: Final = 45.0
"""What draining may take besides the grace: handing back, settling, leaving the group."""
_LOOK_S: Final = 0.5
_IDLE_S: Final = 60.0
_LOG_END_S: Final = 1.0


@dataclass(frozen=True)
class _Working:
    slot: int


@dataclass(frozen=True)
class _Died:
    slot: int
    code: int


@dataclass(frozen=True)
class _Signalled:
    number: int


class Supervisor:
    """Runs a pool of worker processes.

    Args:
        names: of the workers, one a slot.
        command: the command line of the worker of a slot, given the descriptor of its end of the line.
        grace_s: how long each of them lets running attempts end, seconds.
        policy: when dead ones are started again.
        log_format: of what they log.
        out: where that goes; stderr by default.
    """

    def __init__(
        self,
        names: Sequence[str],
        command: Callable[[int, int], Sequence[str]],
        *,
        grace_s: float,
        policy: RestartPolicy | None = None,
        log_format: LogFormat = "text",
        out: BinaryIO | None = None,
    ) -> None:
        self._names = names
        self._command = command
        self._drain_s = grace_s + DRAIN_MORE_S
        self._state = PoolState(len(names), policy or RestartPolicy())
        self._events: queue.SimpleQueue[_Working | _Died | _Signalled] = queue.SimpleQueue()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._readers: dict[int, threading.Thread] = {}
        self._due_s: dict[int, float] = {}
        self._patience_ends_s: float | None = None
        lock = threading.Lock()
        self._logs = [SlotLog(name, out or sys.stderr.buffer, lock, log_format) for name in names]

    def run(self) -> int:
        """Run the pool until it has ended; returns the exit code of the CLI's contract. Main thread only."""
        _logger.info("running %d worker processes: %s to %s", len(self._names), self._names[0], self._names[-1])
        with self._signals():
            self._do(self._state.begin())
            while not self._state.ended:
                self._start_due()
                try:
                    self._on(self._events.get(timeout=self._patience_s()))
                except queue.Empty:
                    self._look_at_the_time()
        if self._state.gave_up:
            name, log = self._names[self._state.guilty], self._logs[self._state.guilty]
            _logger.critical("giving up on %s: %s. The end of its log:\n%s", name, self._state.gave_up, log.end)
        _logger.info("the pool ended with exit code %d", self._state.exit_code)
        return self._state.exit_code

    @contextmanager
    def _signals(self) -> Iterator[None]:
        numbers = (signal.SIGTERM, signal.SIGINT)
        # put() of a SimpleQueue may interrupt another one of the same thread.
        before = {
            number: signal.signal(number, lambda number, _frame: self._events.put(_Signalled(number)))
            for number in numbers
        }
        try:
            yield
        finally:
            for number in numbers:
                signal.signal(number, before[number])

    def _on(self, event: _Working | _Died | _Signalled) -> None:
        match event:
            case _Working(slot):
                self._state.working(slot)
            case _Died(slot, code):
                del self._processes[slot]
                # What it wrote last says why. A process of its own that outlives it may hold the pipe open.
                self._readers.pop(slot).join(_LOG_END_S)
                self._do(self._state.died(slot, code, time.monotonic()), because=f"ended with {named(code)}")
            case _Signalled(number):
                _logger.info("%s: ending the workers", signal.Signals(number).name)
                self._do(self._state.signalled(number))

    def _do(self, commands: Sequence[Command], because: str = "") -> None:
        for command in commands:
            match command:
                case Start(slot, after_s):
                    self._due_s[slot] = time.monotonic() + after_s
                    if because:
                        _logger.warning("%s %s; starting it again in %g s", self._names[slot], because, after_s)
                case Terminate(slots):
                    self._patience_ends_s = time.monotonic() + self._drain_s
                    self._send(slots, signal.SIGTERM)
                case EndNow(slots):
                    _logger.warning("ending %d workers at once; what they run will be run again", len(slots))
                    self._send(slots, signal.SIGKILL)

    def _send(self, slots: Sequence[int], number: signal.Signals) -> None:
        for slot in slots:
            if slot in self._processes:
                self._processes[slot].send_signal(number)

    def _patience_s(self) -> float:
        moments = [*self._due_s.values(), *([self._patience_ends_s] if self._patience_ends_s is not None else [])]
        return max(0.0, min(moments) - time.monotonic()) if moments else _IDLE_S

    def _look_at_the_time(self) -> None:
        if self._patience_ends_s is not None and time.monotonic() >= self._patience_ends_s:
            self._patience_ends_s = None
            self._do(self._state.out_of_time())

    def _start_due(self) -> None:
        now_s = time.monotonic()
        for slot in [slot for slot, due_s in self._due_s.items() if due_s <= now_s]:
            del self._due_s[slot]
            if self._state.may_start(slot):
                self._start(slot)

    def _start(self, slot: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._state.started(slot, time.monotonic())
            try:
                process = subprocess.Popen(
                    self._command(slot, theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    # A Ctrl-C is for the supervisor alone: with ours it would be each worker's second signal.
                    process_group=0,
                )
            except OSError as error:
                ours.close()
                failed = self._state.died(slot, 1, time.monotonic())
                self._do(failed, because=f"could not be started ({error})")
                return
        self._processes[slot] = process
        assert process.stdout is not None
        reader = threading.Thread(
            target=self._logs[slot].follow, args=(process.stdout,), name=f"fairlane-log-{slot}", daemon=True
        )
        reader.start()
        self._readers[slot] = reader
        threading.Thread(
            target=self._follow, args=(slot, process, ours), name=f"fairlane-slot-{slot}", daemon=True
        ).start()
        _logger.info("started %s, pid %d", self._names[slot], process.pid)

    def _follow(self, slot: int, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        """Say when the process works and when it has ended; holds our end of the line as long as it runs."""
        with line:
            # The end of the line is the end of the process, unless a process of its own holds it open.
            line.settimeout(_LOOK_S)
            while True:
                try:
                    if line.recv(1) == WORKING:
                        self._events.put(_Working(slot))
                    break
                except TimeoutError:
                    if process.poll() is not None:
                        break
                except OSError:
                    break
            self._events.put(_Died(slot, process.wait()))
