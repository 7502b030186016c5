"""The parent's side of one child process.

Invariant: a child that runs too long, uses too much memory or goes astray is killed with all that it started, and every
child is waited for: none is left as a zombie, and none outlives its pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from contextvars import Context as ContextVars
from pathlib import Path
from typing import IO, Any, Final, Self

import msgspec

from fairlane.consumer.child_messages import (
    LENGTH,
    Answer,
    Call,
    Cancel,
    LogLine,
    Ready,
    Returned,
    Setup,
    ToChild,
    Unusable,
    encode,
    for_parent,
)
from fairlane.topics.errors import UsageError

START_TIMEOUT_S: Final = 60.0
CANCEL_PATIENCE_S: Final = 0.5
"""How long an attempt that is told to stop may take before its process is killed."""
STOP_PATIENCE_S: Final = 3.0
"""How long a child that is idle may take to end."""
DRAIN_S: Final = 1.0
"""How long what a dead child wrote may take to be read."""
MEMORY_PERIOD_S: Final = 0.1
CRASH_MAX_BYTES: Final = 8_000
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_logger = logging.getLogger("fairlane.executor")


class Ended(msgspec.Struct, frozen=True):
    """The child is gone: how, and where it was if it could still say so."""

    how: str
    crash: str


class ChildProcess:
    """A child that is ready to run one handler; made by `start`."""

    def __init__(
        self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, crash: IO[bytes]
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._crash = crash
        self._why = ""
        self._told: asyncio.Future[Answer | Ready | Unusable | Ended] = self._asked()
        # Nothing of the attempt that it is started for is to be seen by what it logs later.
        loop = asyncio.get_running_loop()
        self._reading = loop.create_task(self._read(), context=ContextVars())
        self._ending = loop.create_task(self._end(), context=ContextVars())
        self.ended: Ended | None = None
        self.calls = 0
        """How many it was given."""

    @classmethod
    async def start(cls, setup: Setup) -> Self:
        """Start a child and wait until it has imported its handler.

        Raises:
            UsageError: it cannot, or it died of it.
        """
        child = await cls._spawn()
        await child.begin(setup)
        return child

    async def begin(self, setup: Setup) -> None:
        """Tell a new child what it is for, and wait until it is ready; `start` does.

        Raises:
            UsageError: it cannot, or it died of it.
        """
        told: Any = None
        try:
            self._send(setup)
            async with asyncio.timeout(START_TIMEOUT_S):
                told = await asyncio.shield(self._told)
        except TimeoutError:
            told = await self.kill(f"it was not ready within {START_TIMEOUT_S:g} s")
        finally:
            # Whoever started it may have been cancelled meanwhile.
            if not isinstance(told, Ready):
                await self.kill("it could not start")
        if isinstance(told, Ready):
            return
        error = f"{told.error.type}: {told.error.message}" if isinstance(told, Unusable) else told.how
        raise UsageError(
            f"a child process cannot run task {setup.task_type!r} by {setup.target}: {error}",
            "A process that imports its module must find the function there",
        )

    @classmethod
    async def _spawn(cls) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            # The process is what is made last: a cancellation in between leaves none behind.
            reader, writer = await asyncio.open_connection(sock=ours)
            crash: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child has ended
            arguments = [str(number) for number in (theirs.fileno(), crash.fileno(), os.getpid())]
            try:
                # A session of its own: Ctrl-C in the terminal is the worker's to answer.
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    "-m",
                    "fairlane.consumer.child_main",
                    *arguments,
                    stdin=DEVNULL,
                    pass_fds=(theirs.fileno(), crash.fileno()),
                    start_new_session=True,
                )
            except BaseException:
                crash.close()
                writer.close()
                raise
        return cls(process, reader, writer, crash)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def was_killed(self) -> bool:
        """Whether it was killed from here, rather than died."""
        return bool(self._why)

    def resident_mib(self) -> float:
        """Memory that it uses now, MiB; 0 where the system does not say."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0.0
        return int(pages) * _PAGE_BYTES / (1 << 20)

    async def run(self, call: Call, memory_max_mib: int | None) -> Answer | Ended:
        """Run the handler for a task.

        A cancellation asks the handler to stop and kills the child if it does not; an answer that comes in spite of it
        counts if it is a result.

        Args:
            call: the task.
            memory_max_mib: above how much memory the child is killed.

        Returns:
            What the handler did, or that the child is gone.
        """
        self.calls += 1
        self._told = self._asked()
        if self.ended is not None:
            return self.ended
        watch = asyncio.create_task(self._watch(memory_max_mib)) if memory_max_mib is not None else None
        try:
            self._send(call)
            told = await asyncio.shield(self._told)
        except asyncio.CancelledError:
            told = await self._stop_call()
            if not isinstance(told, Returned):
                raise
        finally:
            if watch is not None:
                watch.cancel()
        assert not isinstance(told, Ready | Unusable)
        return told

    async def _stop_call(self) -> Answer | Ready | Unusable | Ended:
        try:
            self._send(Cancel())
            async with asyncio.timeout(CANCEL_PATIENCE_S):
                return await asyncio.shield(self._told)
        except TimeoutError:
            return await self.kill("its attempt was over")
        finally:
            if not self._told.done():
                self._kill("its attempt was over")

    async def _watch(self, memory_max_mib: int) -> None:
        while True:
            found = self.resident_mib()
            if found > memory_max_mib:
                self._kill(f"it used {found:.0f} MiB of memory, and memory_max_mib is {memory_max_mib}")
                return
            await asyncio.sleep(MEMORY_PERIOD_S)

    async def stop(self) -> None:
        """Have an idle child end, and wait for it."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write_eof()
        try:
            async with asyncio.timeout(STOP_PATIENCE_S):
                await asyncio.shield(self._ending)
        except TimeoutError:
            await self.kill("it did not end")

    async def kill(self, why: str) -> Ended:
        """Kill it with all that it started, and wait for it."""
        self._kill(why)
        return await asyncio.shield(self._ending)

    def _kill(self, why: str) -> None:
        if self._process.returncode is None and self.ended is None:
            self._why = self._why or why
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    @staticmethod
    def _asked() -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def _send(self, message: ToChild) -> None:
        # One call at a time is under way, so what waits to be written is bounded by it.
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def _read(self) -> None:
        try:
            while True:
                (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
                message = for_parent(await self._reader.readexactly(length))
                if isinstance(message, LogLine):
                    _log(message)
                elif not self._told.done():
                    self._told.set_result(message)
        except (asyncio.IncompleteReadError, OSError):
            # It has ended, as `_end` is about to hear, or goes on without its pipe.
            asyncio.get_running_loop().call_later(DRAIN_S, self._kill, "it closed its pipe")
        except (msgspec.MsgspecError, MemoryError, RecursionError, ValueError) as error:
            self._kill(f"it wrote what nobody can read: {error}")

    async def _end(self) -> Ended:
        code = await self._process.wait()
        # What it started dies with it, unless it ended in good order.
        if code:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        await asyncio.wait([self._reading], timeout=DRAIN_S)
        self._reading.cancel()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        self.ended = Ended(f"the child process {_how(code, self._why)}", self._crash_text())
        if not self._told.done():
            self._told.set_result(self.ended)
        return self.ended

    def _crash_text(self) -> str:
        with self._crash:
            self._crash.seek(0)
            return self._crash.read(CRASH_MAX_BYTES).decode("utf-8", "replace")


def _how(code: int, why: str) -> str:
    if why:
        return f"was killed: {why}"
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (", as by the system when memory runs out" if name == "SIGKILL" else "")


def _log(line: LogLine) -> None:
    """Give a record of the child's to the loggers of this process."""
    try:
        record = logging.makeLogRecord(line.fields)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception:
        _logger.exception("a child's log record could not be logged")
