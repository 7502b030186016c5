"""The health of a real worker on a real Kafka: ready when it works, not while it cannot; Kafka away is no death."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_queue import wait_until
from worker_processes import WorkerProcesses, worker_processes
from working_queue import working_queue

from fairlane.consumer import health
from fairlane.consumer.pool import WorkerPool
from fairlane.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka

APP = """
import time
from pathlib import Path
from fairlane import Fairlane
app = Fairlane("{queue}")

@app.task
async def hog(seconds: float) -> str:
    while not Path("release").exists():
        time.sleep(seconds)
    return "done"
"""


def ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """Status, and what each check that failed says."""
    status, checks = checks_at(port, path)
    return status, {check["name"]: check["says"] for check in checks if not check["ok"]}


def checks_at(port: int, path: str) -> tuple[int, list[dict[str, Any]]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["checks"]
    finally:
        connection.close()


def port_of(workers: WorkerProcesses, name: str) -> int:
    found: list[int] = []

    def is_told() -> bool:
        match = re.search(r"health at http://127\.0\.0\.1:(\d+)/livez", workers.log(name))
        found[:] = [int(match[1])] if match else []
        return bool(found)

    wait_until(is_told, "the health port in the log")
    return found[0]


def is_ready(port: int) -> bool:
    return ask(port, "/readyz") == (200, {})


def test_it_is_ready_soon_not_while_a_handler_holds_up_its_loop_and_again_afterwards(
    kafka: str, tmp_path: Path
) -> None:
    with working_queue(kafka) as queue, worker_processes(queue, APP, tmp_path) as workers:
        workers.start("a", "--health-port", "0")
        port = port_of(workers, "a")
        wait_until(lambda: is_ready(port), "ready")
        task = queue.task("hog", b'{"seconds":1}')
        queue.send(task)
        wait_until(lambda: "event_loop" in ask(port, "/readyz")[1], "not ready while the loop is held up")
        assert ask(port, "/readyz")[0] == 503
        assert ask(port, "/livez") == (200, {})
        wait_until(lambda: "has been blocked" in workers.log("a"), "the stack in the log")
        (tmp_path / "release").touch()
        queue.wait_ended(1)
        wait_until(lambda: is_ready(port), "ready again")
        wait_until(lambda: "goes on" in workers.log("a").partition("has been blocked")[2], "its end in the log")
        log = workers.log("a")
        assert "by the handler of hog" in log
        assert "time.sleep(seconds)" in log, "the stack says where"
        assert task.id in log
        assert workers.stop_all() == {"a": 0}, log


@pytest.fixture
def broker() -> Iterator[EmbeddedKafka]:
    """A broker of this test's own: it is killed."""
    with EmbeddedKafka() as made:
        yield made


def test_it_is_alive_while_kafka_is_away_and_ready_when_it_is_back(broker: EmbeddedKafka, tmp_path: Path) -> None:
    with working_queue(broker.bootstrap) as queue, worker_processes(queue, APP, tmp_path) as workers:
        workers.start("a", "--health-port", "0")
        port = port_of(workers, "a")
        wait_until(lambda: is_ready(port), "ready")
        broker.kill(1)
        ends_at = time.monotonic() + 12
        while time.monotonic() < ends_at:
            assert ask(port, "/livez") == (200, {})
            threading.Event().wait(0.5)
        broker.restart(1)
        (tmp_path / "release").touch()
        wait_until(lambda: is_ready(port), "ready again")
        queue.send(queue.task("hog", b'{"seconds":0}'))
        queue.wait_ended(1)
        assert workers.stop_all() == {"a": 0}, workers.log("a")


def port_in(pool: WorkerPool) -> int:
    worker = pool._worker
    assert worker is not None
    port = worker.vitals.port
    assert port is not None
    return port


def test_a_worker_for_which_the_group_has_no_partition_is_ready_and_says_why(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "ASSIGN_S", 2.0)
    with working_queue(kafka, partitions=1) as queue, queue.worker(health_port=0) as one:
        wait_until(lambda: is_ready(port_in(one)), "the first one ready")
        with queue.worker(health_port=0) as two:
            wait_until(lambda: is_ready(port_in(one)) and is_ready(port_in(two)), "both ready")
            told = [check["says"] for pool in (one, two) for check in checks_at(port_in(pool), "/readyz")[1]]
            assert any("more workers than the lanes have partitions" in says for says in told), told


def test_nobody_answers_after_it_has_ended(kafka: str) -> None:
    with working_queue(kafka) as queue:
        with queue.worker(health_port=0) as pool:
            port = port_in(pool)
            assert ask(port, "/livez") == (200, {})
        with pytest.raises(ConnectionError):
            ask(port, "/livez")
        assert not [thread for thread in threading.enumerate() if thread.name == "fairlane-watchdog"]
