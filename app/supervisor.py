"""The supervisor: starts the worker processes of a pool, starts dead ones again, and ends with all of them.

Invariant: it decides nothing itself: `consumer.restarts` does, and `pool_size` how many there are. It ends only when
none of its processes runs, and if it is killed they end by themselves, since the line to them ends (`supervised`). All
happens on the main thread, fed by a queue; the threads of a process only wait for it and read what it says and writes.
"""

from __future__ import annotations

import logging
import math
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Final

from fairlane.consumer.restarts import (
    Command,
    EndNow,
    Phase,
    PoolState,
    RestartPolicy,
    Retire,
    Start,
    Terminate,
    named,
)
from fairlane.logs import LogFormat
from fairlane.pool_size import PoolSize
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
class _Said:
    slot: int
    line: bytes


@dataclass(frozen=True)
class _Died:
    slot: int
    code: int


@dataclass(frozen=True)
class _Signalled:
    number: int


_Event = _Working | _Said | _Died | _Signalled


class Supervisor:
    """Runs a pool of worker processes.

    Args:
        names: of the workers, one a slot; as many as there may be.
        command: the command line of the worker of a slot, given the descriptor of its end of the line.
        grace_s: how long each of them lets running attempts end, seconds.
        policy: when dead ones are started again.
        size: how many there are; all by default.
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
        size: PoolSize | None = None,
        log_format: LogFormat = "text",
        out: BinaryIO | None = None,
    ) -> None:
        self._names = names
        self._command = command
        self._drain_s = grace_s + DRAIN_MORE_S
        self._size = size
        self._state = PoolState(len(names), policy or RestartPolicy(), size.least if size is not None else None)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._readers: dict[int, threading.Thread] = {}
        self._lines: dict[int, socket.socket] = {}
        self._retired_ends_s: dict[int, float] = {}
        """Until when the processes may drain that the pool goes on without."""
        self._due_s: dict[int, float] = {}
        self._patience_ends_s: float | None = None
        lock = threading.Lock()
        self._logs = [SlotLog(name, out or sys.stderr.buffer, lock, log_format) for name in names]

    def run(self) -> int:
        """Run the pool until it has ended; returns the exit code of the CLI's contract. Main thread only."""
        begins = self._state.begin()
        _logger.info("running %d worker processes from %s on", len(begins), self._names[0])
        with self._signals():
            self._do(begins)
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

    def _on(self, event: _Event) -> None:
        match event:
            case _Working(slot):
                self._state.working(slot)
                self._tell(slot)
            case _Said(slot, line):
                self._hear(slot, line)
            case _Died(slot, code):
                self._bury(slot, code)
            case _Signalled(number):
                _logger.info("%s: ending the workers", signal.Signals(number).name)
                self._do(self._state.signalled(number))

    def _hear(self, slot: int, line: bytes) -> None:
        decision = self._size.heard(slot, line, time.monotonic()) if self._size is not None else None
        if decision is not None and self._state.phase is Phase.RUNNING:
            self._do(self._state.resize(decision.after))
            self._tell(*self._lines)

    def _tell(self, *slots: int) -> None:
        """Tell workers of their pool."""
        for slot in slots:
            if self._size is not None and slot in self._lines:
                # One that has just ended, or does not listen, is told in vain.
                with suppress(OSError):
                    self._lines[slot].sendall(self._size.told())

    def _bury(self, slot: int, code: int) -> None:
        del self._processes[slot], self._lines[slot]
        # What it wrote last says why. A process of its own that outlives it may hold the pipe open.
        self._readers.pop(slot).join(_LOG_END_S)
        if self._size is not None:
            self._size.gone(slot)
        was_retired = self._retired_ends_s.pop(slot, None) is not None
        because = f"ended with {named(code)}"
        if was_retired:
            _logger.info("%s %s, as it was asked to", self._names[slot], because)
        self._do(self._state.died(slot, code, time.monotonic()), because="" if was_retired else because)

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
                case Retire(slots):
                    _logger.info("ending %s", ", ".join(self._names[slot] for slot in slots))
                    self._retired_ends_s |= dict.fromkeys(slots, time.monotonic() + self._drain_s)
                    self._send(slots, signal.SIGTERM)
                case EndNow(slots):
                    _logger.warning("ending %d workers at once; what they run will be run again", len(slots))
                    self._send(slots, signal.SIGKILL)

    def _send(self, slots: Sequence[int], number: signal.Signals) -> None:
        for slot in slots:
            if slot in self._processes:
                self._processes[slot].send_signal(number)

    def _patience_s(self) -> float:
        moments = [*self._due_s.values(), *self._retired_ends_s.values()]
        moments += [self._patience_ends_s] if self._patience_ends_s is not None else []
        return min(_IDLE_S, max(0.0, min(moments, default=math.inf) - time.monotonic()))

    def _look_at_the_time(self) -> None:
        if self._patience_ends_s is not None and time.monotonic() >= self._patience_ends_s:
            self._patience_ends_s = None
            self._do(self._state.out_of_time())
        for slot in [slot for slot, ends_s in self._retired_ends_s.items() if ends_s <= time.monotonic()]:
            self._retired_ends_s[slot] = math.inf
            self._do([EndNow((slot,))])

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
        self._processes[slot], self._lines[slot] = process, ours
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
        """Pass on what the process says, and that it has ended; holds our end of the line as long as it runs."""
        with line:
            # The end of the line is the end of the process, unless a process of its own holds it open.
            line.settimeout(_LOOK_S)
            unfinished = b""
            while True:
                try:
                    said = line.recv(65_536)
                except TimeoutError:
                    if process.poll() is not None:
                        break
                    continue
                except OSError:
                    break
                if not said:
                    break
                *lines, unfinished = (unfinished + said).split(b"\n")
                for each in lines:
                    self._events.put(_Working(slot) if each == WORKING else _Said(slot, each))
            self._events.put(_Died(slot, process.wait()))
