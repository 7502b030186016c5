"""Where the embedded Kafka keeps its files: what can be fetched again in the cache, what cannot in the state directory.

Invariant: nothing is written outside of these two directories, the data directory that was asked for, and temporary
directories that are removed again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fairlane.kafka.errors import PlaceUnusable
from fairlane.topics.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Jars live here. `FAIRLANE_CACHE_DIR`, else `XDG_CACHE_HOME`/fairlane, else the platform's own place."""
    return _place(environ, "FAIRLANE_CACHE_DIR", "XDG_CACHE_HOME", "Library/Caches", ".cache")


def state_dir(environ: Mapping[str, str]) -> Path:
    """Data of named brokers and the record of what runs. `FAIRLANE_STATE_DIR`, else `XDG_STATE_HOME`/fairlane, …"""
    return _place(environ, "FAIRLANE_STATE_DIR", "XDG_STATE_HOME", "Library/Application Support", ".local/state")


def _place(environ: Mapping[str, str], own: str, xdg: str, mac: str, other: str) -> Path:
    if environ.get(own):
        return Path(environ[own]).expanduser().absolute()
    # The XDG specification says to ignore a relative path.
    if Path(environ.get(xdg, "")).is_absolute():
        return Path(environ[xdg]) / "fairlane"
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    return home / (mac if sys.platform == "darwin" else other) / "fairlane"


@contextmanager
def writing(path: Path, variable: str) -> Iterator[None]:
    """Turns what the operating system says about writing to `path` in the block into one error for people.

    Raises:
        PlaceUnusable: it said no.
    """
    try:
        yield
    except OSError as error:
        raise PlaceUnusable(str(path), error.strerror or str(error), variable) from error


def named_dir(environ: Mapping[str, str]) -> Path:
    """Everything about brokers with a name: `NAME.json` is the record, `NAME/` the data."""
    return state_dir(environ) / "kafka"


def check_name(name: str) -> str:
    """`name`, if it can name a broker.

    Raises:
        UsageError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a Kafka", "Letters, digits, '.', '_' and '-', at most 64, no sign first"
        )
    return name
