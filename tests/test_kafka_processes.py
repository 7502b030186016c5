"""Pids, ports, records and data directories of the embedded Kafka, without a broker."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlane.kafka import processes, service, state
from fairlane.kafka.broker import end_brokers
from fairlane.kafka.errors import DataMismatch, NotRunning, PortTaken
from fairlane.kafka.ports import choose_nodes
from fairlane.kafka.processes import ProcessMark
from fairlane.kafka.properties import Node
from fairlane.kafka.state import NamedBroker, NamedKafka
from fairlane.kafka.storage import read_record
from fairlane.topics.errors import UsageError

DEAF = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[list[ProcessMark]]:
    """Marks put in here are killed at the end."""
    marks: list[ProcessMark] = []
    yield marks
    for mark in marks:
        processes.send(mark, signal.SIGKILL)
        processes.wait_until_gone(mark, 10)


def spawn(code: str, tmp_path: Path, spawned: list[ProcessMark]) -> ProcessMark:
    from waiting import wait_until

    output = tmp_path / "output"
    mark = processes.spawn([sys.executable, "-c", code], output, process_group=None, environ=os.environ)
    spawned.append(mark)
    wait_until(lambda: "up" in output.read_text(), "the child to be up")
    return mark


SLEEPER = "import time; print('up', flush=True); time.sleep(600)"


def test_a_process_is_known_by_pid_and_start(tmp_path: Path, spawned: list[ProcessMark]) -> None:
    mark = spawn(SLEEPER, tmp_path, spawned)
    assert processes.mark_of(mark.pid) == mark
    assert processes.is_alive(mark)
    assert processes.exit_status(mark) is None


def test_a_recycled_pid_is_never_signalled(tmp_path: Path, spawned: list[ProcessMark]) -> None:
    """The pid is right and the start is not: it is somebody else's process by now."""
    mark = spawn(SLEEPER, tmp_path, spawned)
    stale = ProcessMark(mark.pid, "another-boot/12345")
    assert not processes.is_alive(stale)
    end_brokers({1: stale}, grace_s=0)
    end_brokers({1: stale}, grace_s=5)
    assert processes.is_alive(mark)


def test_a_process_that_heeds_sigterm_is_not_killed(tmp_path: Path, spawned: list[ProcessMark]) -> None:
    mark = spawn(SLEEPER, tmp_path, spawned)
    end_brokers({1: mark}, grace_s=30)
    assert not processes.is_alive(mark)


def test_a_process_that_does_not_heed_sigterm_is_killed(tmp_path: Path, spawned: list[ProcessMark]) -> None:
    mark = spawn(DEAF, tmp_path, spawned)
    end_brokers({1: mark}, grace_s=0.2)
    assert not processes.is_alive(mark)


def test_remains_of_a_child_count_as_gone(tmp_path: Path, spawned: list[ProcessMark]) -> None:
    mark = spawn(SLEEPER, tmp_path, spawned)
    os.kill(mark.pid, signal.SIGKILL)
    assert processes.wait_until_gone(mark, 10)
    assert processes.mark_of(mark.pid) is None


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_a_taken_port_is_named(taken_port: int) -> None:
    with pytest.raises(PortTaken) as raised:
        choose_nodes(1, taken_port)
    assert raised.value.port == taken_port
    assert f"--port {taken_port + 10}" in str(raised.value)


def test_free_ports_are_all_different() -> None:
    nodes = choose_nodes(3, 0)
    assert [node.id for node in nodes] == [1, 2, 3]
    assert len({port for node in nodes for port in (node.port, node.controller_port)}) == 6


def test_asked_for_ports_follow_each_other() -> None:
    base = choose_nodes(1, 0)[0].port
    if base > 65_000:
        base = 20_000
    assert [node.port for node in choose_nodes(1, base)] == [base]


@pytest.mark.parametrize(("brokers", "port"), [(1, 65_536), (3, 65_534), (1, -1)])
def test_a_port_that_cannot_be_is_a_usage_error(brokers: int, port: int) -> None:
    with pytest.raises(UsageError):
        choose_nodes(brokers, port)


def kafka_of(mark: ProcessMark, name: str = "default", port: int = 9092) -> NamedKafka:
    return NamedKafka(name, "4.3.1", Path("/data"), 1_700_000_000_000, (NamedBroker(Node(1, port, 7001), mark),))


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    kafka = kafka_of(ProcessMark(123, "boot/456"))
    state.write(tmp_path / "deep" / "default.json", kafka)
    assert state.read(tmp_path / "deep" / "default.json") == kafka


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"brokers": [{"id": "x"}]}', "\x00\xff"])
def test_a_damaged_record_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "default.json").write_bytes(text.encode("latin-1"))
    assert state.read(tmp_path / "default.json") is None


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAIRLANE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state" / "kafka"


def test_a_record_of_what_has_ended_is_not_shown_and_not_stopped(state_home: Path) -> None:
    stale = kafka_of(ProcessMark(os.getpid(), "another-boot/1"))
    state.write(state_home / "default.json", stale)
    assert service.running_now() == []
    with pytest.raises(NotRunning):
        service.stop("default")


def test_not_running_names_what_is(state_home: Path) -> None:
    me = processes.mark_of(os.getpid())
    assert me is not None
    state.write(state_home / "other.json", kafka_of(me, "other"))
    with pytest.raises(NotRunning, match="Running are: other"):
        service.stop("default")


@pytest.mark.parametrize(
    ("asked", "difference"),
    [
        (service.Asked(), None),
        (service.Asked(port=9092, brokers=1, data_dir=Path("/data")), None),
        (service.Asked(port=0), None),  # any port: the one it has will do
        (service.Asked(port=9999), "on port 9092 and not 9999"),
        (service.Asked(brokers=3), "with 1 broker(s) and not 3"),
        (service.Asked(data_dir=Path("/elsewhere")), "on the data in /data"),
    ],
)
def test_what_runs_will_do_unless_something_else_was_asked_for(asked: service.Asked, difference: str | None) -> None:
    assert asked.difference(kafka_of(ProcessMark(1, "x"))) == difference


def test_a_damaged_cluster_record_is_reported_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps({"brokers": 1}))
    with pytest.raises(DataMismatch, match=r"cluster\.json is damaged"):
        read_record(tmp_path)
    assert (tmp_path / "cluster.json").exists()
