"""The embedded Kafka, for real: it starts, answers, keeps its data, breaks when told to, leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from waiting import wait_until

from fairlane.kafka import EmbeddedKafka, processes
from fairlane.kafka.cluster import start_cluster
from fairlane.kafka.errors import AlreadyRunning, BrokerDied, DataMismatch, PortTaken
from fairlane.kafka.guarded import guarded_group
from fairlane.kafka.runtime import find_runtime
from fairlane.topics.errors import UsageError

pytestmark = pytest.mark.kafka


def make_topic(bootstrap: str, topic: str, replicas: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, replicas)])[topic].result(60)


def write(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "message.timeout.ms": 30_000})
    errors: list[object] = []
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    assert errors == [None] * len(values)


def read(bootstrap: str, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(count, 30)]
    finally:
        consumer.close()


@pytest.fixture
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Names of these tests are not the user's."""
    monkeypatch.setenv("FAIRLANE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def test_the_kafka_of_the_session_answers(kafka: str) -> None:
    assert AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=60).brokers


def test_data_survives_a_restart_on_another_port(tmp_path: Path) -> None:
    with EmbeddedKafka(data_dir=tmp_path / "data") as kafka:
        first = kafka.bootstrap
        make_topic(first, "kept")
        write(first, "kept", b"one", b"two")
    with EmbeddedKafka(data_dir=tmp_path / "data") as kafka:
        assert kafka.bootstrap != first
        assert read(kafka.bootstrap, "kept", 2) == [b"one", b"two"]


def test_data_of_three_brokers_survives_a_restart_on_other_ports(tmp_path: Path) -> None:
    with EmbeddedKafka(brokers=3, data_dir=tmp_path / "data") as kafka:
        make_topic(kafka.bootstrap, "kept", replicas=3)
        write(kafka.bootstrap, "kept", b"one")
    with EmbeddedKafka(brokers=3, data_dir=tmp_path / "data") as kafka:
        assert read(kafka.bootstrap, "kept", 1) == [b"one"]


def test_one_of_three_may_be_killed_and_comes_back(cluster_of_three: EmbeddedKafka, queue: str) -> None:
    make_topic(cluster_of_three.bootstrap, queue, replicas=3)
    write(cluster_of_three.bootstrap, queue, b"before")
    cluster_of_three.kill(2)
    try:
        write(cluster_of_three.bootstrap, queue, b"while one is dead")
    finally:
        cluster_of_three.restart(2)
    assert len(AdminClient({"bootstrap.servers": cluster_of_three.bootstrap}).list_topics(timeout=60).brokers) == 3
    assert read(cluster_of_three.bootstrap, queue, 2) == [b"before", b"while one is dead"]
    with pytest.raises(UsageError, match="no broker 4"):
        cluster_of_three.kill(4)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_a_taken_port_is_an_error_that_names_it(taken_port: int) -> None:
    with pytest.raises(PortTaken) as raised, EmbeddedKafka(port=taken_port):
        pass
    assert raised.value.port == taken_port


def test_a_broker_that_dies_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with EmbeddedKafka(data_dir=tmp_path):
        pass
    meta = tmp_path / "broker-1" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(BrokerDied) as raised, EmbeddedKafka(data_dir=tmp_path):
        pass
    assert raised.value.broker_id == 1
    assert raised.value.exit_status == 1
    assert "node id" in raised.value.log_end
    assert raised.value.log_end in str(raised.value).replace("\n    ", "\n")
    assert Path(raised.value.log_path).stat().st_size > 0


def test_data_of_one_broker_is_not_started_as_three(tmp_path: Path) -> None:
    with EmbeddedKafka(data_dir=tmp_path):
        pass
    with pytest.raises(DataMismatch, match="that of 1 broker"), EmbeddedKafka(brokers=3, data_dir=tmp_path):
        pass


def test_a_directory_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataMismatch, match="not empty"), EmbeddedKafka(data_dir=tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_one_name_is_one_kafka(state_home: Path) -> None:
    with EmbeddedKafka(name="mine") as kafka:
        with pytest.raises(AlreadyRunning, match="mine"), EmbeddedKafka(name="mine"):
            pass
        assert AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=60).brokers
    assert (state_home / "kafka" / "mine" / "cluster.json").exists()
    assert not (state_home / "kafka" / "mine.json").exists()


def test_it_cannot_be_asked_for_anything_when_it_is_not_running() -> None:
    with pytest.raises(UsageError, match="not running"):
        _ = EmbeddedKafka().bootstrap


def test_a_start_up_archive_that_was_cut_off_is_no_hindrance(tmp_path: Path) -> None:
    """Some Javas go on without it, some crash, and then it is removed and they are started without it."""
    runtime = find_runtime(os.environ)
    assert runtime.archive is not None, "there is none for this Java"
    cut_off = tmp_path / "archive"
    with runtime.archive.open("rb") as whole:
        cut_off.write_bytes(whole.read(20_000_000))
    damaged = replace(
        runtime,
        archive=cut_off,
        flags=tuple(flag.replace(str(runtime.archive), str(cut_off)) for flag in runtime.flags),
    )
    with guarded_group([]) as group:
        start_cluster(damaged, brokers=1, port=0, data_dir=tmp_path / "data", process_group=group).stop()


OWNER = """
import sys
from fairlane.kafka import EmbeddedKafka
kafka = EmbeddedKafka().start()
broker = kafka.cluster.brokers[1]
print(broker.mark.pid, kafka.cluster.shape.data_dir, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=["kill -9", "SIGTERM", "end of program"])
def test_the_broker_and_its_data_go_with_its_program(how: signal.Signals | None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        pid, data_dir = owner.stdout.readline().split()
        broker = processes.mark_of(int(pid))
        assert broker is not None
        if how is None:
            owner.stdin.close()
        else:
            owner.send_signal(how)
        wait_until(lambda: not processes.is_alive(broker), "the broker to end")
        wait_until(lambda: not Path(data_dir).exists(), "its data to be removed")


def test_a_fork_of_the_program_does_not_end_its_kafka(state_home: Path) -> None:
    with EmbeddedKafka() as kafka:
        child = os.fork()
        if child == 0:
            kafka.stop()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert kafka.cluster.brokers[1].is_alive()


OFFLINE = """
import sys

def refuse(event, arguments):
    if event == "socket.getaddrinfo" and arguments[0] not in ("127.0.0.1", "localhost"):
        raise RuntimeError(f"asked for the address of {arguments[0]}")
    if event == "socket.connect" and not str(arguments[1][0]).startswith("127."):
        raise RuntimeError(f"connected to {arguments[1]}")

sys.addaudithook(refuse)
from fairlane.kafka import EmbeddedKafka
with EmbeddedKafka() as kafka:
    assert "jgo" not in sys.modules and "requests" not in sys.modules
    print(kafka.bootstrap)
"""


def test_after_the_first_time_no_network_is_needed(kafka: str) -> None:
    """The session's Kafka has fetched what there is to fetch; from then on not even the fetching library is loaded."""
    with EmbeddedKafka():
        pass
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("127.0.0.1:")
