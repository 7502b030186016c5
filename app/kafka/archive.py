"""A start-up archive: Kafka's classes as Java has them in memory, so that a broker need not load and check them.

Invariant: it is a shortcut and nothing else: Java checks that it fits and goes without it if not, and what goes wrong
while it is made is no error. Measured: half the processor time of a start, and 50 MB less memory.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from fairlane.kafka.broker import Runtime, java_flags
from fairlane.kafka.cluster import start_cluster
from fairlane.kafka.errors import BrokerDied, LockBusy
from fairlane.kafka.guarded import guarded_group
from fairlane.kafka.java import Java
from fairlane.kafka.locks import locked
from fairlane.topics.errors import EmbeddedKafkaError

_log = logging.getLogger(__name__)

_AOT_CACHE_SINCE: Final = 25
"""JEP 514; before it, an archive of application classes (JEP 350)."""
_READY_S: Final = 30.0
_WRITING_S: Final = 60.0
_KEPT: Final = 4
_ENDED_AS_ASKED: Final = 128 + signal.SIGTERM


def with_archive(runtime: Runtime, say: Callable[[str], None] = _log.info) -> Runtime:
    """`runtime` with a start-up archive, made the first time (some seconds); as it is if there can be none."""
    path = runtime.distribution.directory / f"start-{_identity(runtime.java)}.archive"
    try:
        if not path.exists():
            with locked(runtime.distribution.directory / "archive.lock", 0):
                if not path.exists():
                    say("Preparing Kafka's start-up archive (some seconds, once): it will start in half the time")
                    _make(runtime, path)
        # An empty file says that this Java cannot make one.
        if path.stat().st_size == 0:
            return runtime
    except LockBusy:
        # Somebody else is making it. A start without it is sooner than waiting.
        return runtime
    except (EmbeddedKafkaError, OSError) as error:
        # If it is more than the archive that fails, the start that follows says so.
        _log.info("Kafka starts without a start-up archive: %s", str(error).partition("\n")[0])
        return runtime
    return replace(runtime, archive=path, flags=(_use(runtime.java, path),))


def _make(runtime: Runtime, path: Path) -> None:
    """Starts a broker that notes what it loads, and writes it down when it ends."""
    written = path.with_suffix(".partial")
    written.unlink(missing_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="fairlane-kafka-"))
    try:
        with guarded_group([scratch]) as group:
            noting = replace(runtime, flags=(_note(runtime.java, written),))
            cluster = start_cluster(
                noting, brokers=1, port=0, data_dir=scratch / "data", process_group=group, timeout_s=_READY_S
            )
            cluster.stop(_WRITING_S)
        # Java 17 does not survive an archive that was cut off: nothing but a whole one, on the disk, gets the name.
        if cluster.brokers[1].exit_status() == _ENDED_AS_ASKED and written.exists():
            with written.open("rb") as archive:
                os.fsync(archive.fileno())
            written.replace(path)
            _prune(path)
        else:
            path.touch()
    except BrokerDied:
        path.touch()
        raise
    finally:
        written.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)


def _prune(newest: Path) -> None:
    """Every Java that was ever here has left one of 60 MB."""
    archives = sorted(newest.parent.glob("start-*.archive"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in archives[_KEPT:]:
        path.unlink()


def _note(java: Java, path: Path) -> str:
    option = "AOTCacheOutput" if java.major >= _AOT_CACHE_SINCE else "ArchiveClassesAtExit"
    return f"-XX:{option}={path}"


def _use(java: Java, path: Path) -> str:
    option = "AOTCache" if java.major >= _AOT_CACHE_SINCE else "SharedArchiveFile"
    return f"-XX:{option}={path}"


def _identity(java: Java) -> str:
    """What Java itself compares: its flags, its build and its class library, by size and time."""
    home = java.path.resolve().parent.parent
    stats = [part.stat() for part in (home / "release", home / "lib" / "modules") if part.is_file()]
    facts = [*java_flags(java), java.major, *((stat.st_size, stat.st_mtime_ns) for stat in stats)]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
