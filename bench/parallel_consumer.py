"""Confluent's Parallel Consumer: its jars, checked and kept beside Kafka's, and our class compiled against them.

Invariant: `made` fetches and compiles, and only `make bench` calls it; `command` uses what is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from peers.jar_pins import PARALLEL_CONSUMER

from fairlane.kafka.jars import Distribution, Pin, distribution_at, ensure_jars
from fairlane.kafka.places import cache_dir

PINS: Final = tuple(Pin(coordinate, sha256) for coordinate, sha256 in PARALLEL_CONSUMER)
SOURCE: Final = Path(__file__).resolve().parent / "peers" / "ParallelConsumerBench.java"
NAME: Final = "parallel-consumer"


def missing(home: Path) -> str:
    """Why it cannot run; empty if it can."""
    if shutil.which("java") is None:
        return "no Java is installed: `make bench` installs it"
    if not _jars().is_complete() or not _compiled(home).is_file():
        return "Parallel Consumer is not here: `make bench` fetches it"
    return ""


def command(home: Path) -> list[str]:
    """What runs our class; its arguments follow."""
    path = [_compiled(home).parent, *_jars().class_path]
    return ["java", "-Dslf4j.internal.verbosity=ERROR", "-cp", ":".join(map(str, path)), SOURCE.stem]


def made(home: Path) -> None:
    """Fetch the jars and compile our class, if it is not done yet."""
    jars = ensure_jars(os.environ, pins=PINS, say=lambda _: print("Fetching Parallel Consumer (once)", flush=True))
    compiled = _compiled(home)
    if compiled.is_file() and compiled.stat().st_mtime > SOURCE.stat().st_mtime:
        return
    path = ":".join(map(str, jars.class_path))
    compiled.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["javac", "-cp", path, "-d", str(compiled.parent), str(SOURCE)], check=True)


def _jars() -> Distribution:
    return distribution_at(cache_dir(os.environ), PINS)


def _compiled(home: Path) -> Path:
    return home / NAME / f"{SOURCE.stem}.class"


if __name__ == "__main__":
    made(Path(sys.argv[1]))
