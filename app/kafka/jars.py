"""Kafka's jars: fetched once with jgo, checked, and kept in the user's cache directory.

Invariant: a directory of jars appears under its final name whole and checked, or not at all; once it is there, nothing
here opens a connection, not even to look for something newer.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from fairlane.kafka.errors import ExtraMissing, JarMismatch
from fairlane.kafka.jar_pins import KAFKA_VERSION, PINS
from fairlane.kafka.locks import locked
from fairlane.kafka.places import cache_dir, writing

_log = logging.getLogger(__name__)

_LOCK_TIMEOUT_S: Final = 600.0
"""A first download over a slow line by another process."""
_PARALLEL: Final = 8


@dataclass(frozen=True)
class Pin:
    """One jar: its Maven coordinate `group:artifact:version` and the SHA-256 it must have."""

    coordinate: str
    sha256: str

    @property
    def filename(self) -> str:
        """What the registry calls the file."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


KAFKA: Final = tuple(Pin(coordinate, sha256) for coordinate, sha256 in PINS)


@dataclass(frozen=True)
class Distribution:
    """A Kafka that is ready to run: `directory` holds the jars of `pins` in `jars/` and what is made of them."""

    directory: Path
    pins: tuple[Pin, ...]

    @property
    def class_path(self) -> tuple[Path, ...]:
        """Every jar by name and in a fixed order, so that a class is found in the same jar on every machine."""
        return tuple(self.directory / "jars" / pin.filename for pin in self.pins)

    def is_complete(self) -> bool:
        """True if every jar is there. Their content was checked before they got there."""
        return all(path.is_file() for path in self.class_path)


class Fetch(Protocol):
    """Fetches the jar of `coordinate` through `scratch` and says where it is; raises RegistryUnreachable."""

    def __call__(self, coordinate: str, scratch: Path) -> Path:
        """As the class says."""


def distribution_at(cache: Path, pins: Sequence[Pin] = KAFKA) -> Distribution:
    """The distribution of `pins` in the directory `cache`, whether or not it is there yet."""
    digest = hashlib.sha256("".join(pin.coordinate + pin.sha256 for pin in pins).encode()).hexdigest()
    return Distribution(cache / "kafka" / f"{KAFKA_VERSION}-{digest[:8]}", tuple(pins))


def ensure_jars(
    environ: Mapping[str, str],
    *,
    pins: Sequence[Pin] = KAFKA,
    fetch: Fetch | None = None,
    say: Callable[[str], None] = _log.info,
) -> Distribution:
    """Kafka's jars, fetched if they are not here yet (about 41 MB, once).

    Args:
        environ: the environment, for the place of the cache.
        pins: the jars.
        fetch: how to fetch one; by default jgo, from Maven Central or the repositories of ~/.config/jgo.conf.
        say: told in a sentence before the network is used.

    Raises:
        RegistryUnreachable, JarMismatch: a jar cannot be had, or is another one; nothing is kept.
        ExtraMissing: jgo is not installed.
        LockBusy: another process has been fetching for ten minutes.
        PlaceUnusable: the cache cannot be written to.
    """
    cache = cache_dir(environ)
    distribution = distribution_at(cache, pins)
    if distribution.is_complete():
        return distribution
    with writing(cache, "FAIRLANE_CACHE_DIR"), locked(cache / "kafka" / "fetch.lock", _LOCK_TIMEOUT_S):
        if distribution.is_complete():
            return distribution
        # Only a holder of the lock writes here, so what lies here was left by one that was killed.
        scratch = cache / "kafka" / "fetching"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            say(f"Fetching Apache Kafka {KAFKA_VERSION} into {cache} (41 MB, once)")
            with nullcontext(fetch) if fetch else _from_the_registry(environ) as fetch_jar:
                _fetch_all(distribution.pins, fetch_jar, scratch)
            shutil.rmtree(distribution.directory, ignore_errors=True)
            (scratch / "whole").replace(distribution.directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return distribution


def _fetch_all(pins: Sequence[Pin], fetch: Fetch, scratch: Path) -> None:
    whole = scratch / "whole" / "jars"
    whole.mkdir(parents=True)

    def fetch_one(pin: Pin) -> None:
        path = fetch(pin.coordinate, scratch / "repository")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != pin.sha256:
            raise JarMismatch(pin.coordinate, pin.sha256, found)
        shutil.copyfile(path, whole / pin.filename)

    pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="fairlane-jars")
    try:
        for done in [pool.submit(fetch_one, pin) for pin in pins]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)
    # The rename must not reach the disk before the jars do.
    for path in whole.iterdir():
        with path.open("rb") as jar:
            os.fsync(jar.fileno())


@contextmanager
def _from_the_registry(environ: Mapping[str, str]) -> Iterator[Fetch]:
    try:
        from fairlane.kafka import maven
    except ImportError as error:
        raise ExtraMissing(error.name or "jgo") from None
    with closing(maven.from_settings(environ)) as jars:
        yield jars
