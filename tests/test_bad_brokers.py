"""A Kafka that is not as it should be: nothing acknowledged is lost, the worker says what is wrong and what to do about
it, once and not again and again, and goes on by itself when it is mended. Each row of docs/brokers.md names its tests.

What do these tests do? They take something away from a worker that works, and give it back. What only a broker of their
own can be denied, or dies of, is done in test_bad_own_broker.py.
"""

from __future__ import annotations

import logging
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from broken_kafka import COUNT, ONCE, complaints, ends, send, wait_complaint, work
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are in its documentation
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
)
from live_queue import records, wait_until
from worker_processes import worker_processes
from working_queue import WorkingQueue, working_queue

from fairlane.topics.admin import TopicAdmin
from fairlane.topics.events import decode_heartbeat
from fairlane.topics.topology import Topology

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def queue(kafka: str) -> Iterator[WorkingQueue]:
    with working_queue(kafka, partitions=2) as queue:
        yield queue


# A topic is missing.


@contextmanager
def without(queue: WorkingQueue, topic: str) -> Iterator[None]:
    """While it lasts, a topic does not exist."""
    admin = AdminClient({"bootstrap.servers": queue.bootstrap})
    admin.delete_topics([topic])[topic].result(60)
    yield
    TopicAdmin(queue.connection, timeout_s=60).create(Topology.of(queue.names, partitions=2))


@pytest.mark.parametrize(
    ("missing", "how", "state"),
    [("dlq", "dead", "failed"), ("status", "done", "completed"), ("retry-5s", "later", "completed")],
)
def test_a_topic_that_is_missing_is_named_and_when_it_is_back_all_are_settled_once(
    queue: WorkingQueue, missing: str, how: str, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = f"{queue.names.queue}.{missing}"
    with queue.worker(work, policies={"work": {"retry": ONCE}} if how == "dead" else None):
        send(queue, count=1)
        queue.wait_ended(1)
        with without(queue, topic):
            send(queue, how)
            wait_complaint(caplog, f"nothing can be settled: Kafka refuses topic {topic} (")
            assert f"`fairlane topics create --queue {queue.names.queue}`" in caplog.text
        expected = Counter({state: COUNT})
        if missing != "status":
            expected["completed"] += 1
        wait_until(lambda: ends(queue) == expected, "all to end, once each")
    assert len(queue.letters()) == (COUNT if how == "dead" else 0)
    assert len(complaints(caplog)) <= 3, complaints(caplog)


def test_a_topic_of_heartbeats_that_is_missing_is_named_and_tasks_run_all_the_same(
    queue: WorkingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fairlane")
    with queue.worker(work):
        with without(queue, queue.names.workers):
            send(queue)
            queue.wait_ended(COUNT)
            wait_complaint(caplog, f"no heartbeat arrives: Kafka refuses topic {queue.names.workers} (")
        wait_until(lambda: "heartbeats arrive again" in caplog.text, "heartbeats again")


# A record is too large.


def set_topic(queue: WorkingQueue, topic: str, name: str, value: str) -> None:
    change = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
    admin = AdminClient({"bootstrap.servers": queue.bootstrap})
    for done in admin.incremental_alter_configs([changed]).values():
        done.result(60)


def test_letters_that_the_dlq_does_not_take_are_said_and_their_tasks_end_all_the_same(
    queue: WorkingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    with queue.worker(work, policies={"work": {"retry": ONCE}}):
        # One that is so from the beginning is refused: a worker does not start.
        set_topic(queue, queue.names.dlq, "max.message.bytes", "300")
        send(queue, "dead", 2)
        send(queue)
        queue.wait_ended(2 + COUNT)
    assert ends(queue) == {"completed": COUNT, "failed": 2}
    assert queue.letters() == []
    assert caplog.text.count(f"even the dead letter is too large for topic {queue.names.dlq}") == 2
    assert (
        len([each for each in records(queue.bootstrap, queue.names.lane(3)) if b"dead" in (each.value() or b"")]) == 2
    )


# Transactions.


def test_a_producer_that_is_fenced_is_renewed_and_all_are_settled_once(
    queue: WorkingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    with queue.worker(work):
        wait_until(lambda: records(queue.bootstrap, queue.names.workers), "its heartbeat")
        beat = decode_heartbeat(records(queue.bootstrap, queue.names.workers)[-1].value() or b"")
        assert beat is not None
        send(queue)
        queue.wait_ended(COUNT)
        # What anybody does who begins transactions under its id.
        other = {"bootstrap.servers": queue.bootstrap, "transactional.id": beat.transactional_id}
        Producer(other).init_transactions(20)
        send(queue)
        wait_until(lambda: ends(queue) == {"completed": 2 * COUNT}, "all to end, once each")
    (said,) = complaints(caplog)
    assert "the producer was given up, and all that is not settled is read again" in said
    assert "fenced" in said


FREEZES = """
import pathlib, signal, threading
from fairlane import Fairlane
from fairlane.consumer import settler, transaction

transaction.TRANSACTION_TIMEOUT_S = 2.0
app = Fairlane("{queue}")

class Freezes(transaction.TransactionalProducer):
    def run(self, records, offsets, lease):
        self.writes = bool(records)
        super().run(records, offsets, lease)

    def _await_delivery(self):
        super()._await_delivery()
        if self.writes and pathlib.Path("freeze").exists():
            pathlib.Path("freeze").rename("frozen")
            # To this very thread: whichever other one is given it may get to it only when the commit is made.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

settler.TransactionalProducer = Freezes

@app.task()
async def work(how: str) -> str:
    return how
"""


def ends_of(queue: WorkingQueue, topic: str, isolation: str) -> list[int]:
    """Where readers of this isolation level are at the end of each partition."""
    from confluent_kafka import IsolationLevel

    admin = AdminClient({"bootstrap.servers": queue.bootstrap})
    asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(2)}  # type: ignore[no-untyped-call]
    level = getattr(IsolationLevel, isolation)
    return [each.result(60).offset for each in admin.list_offsets(asked, isolation_level=level).values()]


def test_a_worker_that_stands_still_in_mid_transaction_for_longer_than_its_timeout_settles_all_once(
    queue: WorkingQueue, tmp_path: Path
) -> None:
    with worker_processes(queue, FREEZES, tmp_path) as workers:
        workers.start("a")
        send(queue)
        queue.wait_ended(COUNT)
        (tmp_path / "freeze").touch()
        send(queue)
        status = queue.names.status
        wait_until((tmp_path / "frozen").exists, "it stands still")
        wait_until(
            lambda: ends_of(queue, status, "READ_COMMITTED") == ends_of(queue, status, "READ_UNCOMMITTED"),
            "Kafka ends its transaction",
        )
        assert ends(queue) == {"completed": COUNT}
        workers.signal("a", signal.SIGCONT)
        wait_until(lambda: ends(queue) == {"completed": 2 * COUNT}, "all to end, once each")
        assert workers.stop_all() == {"a": 0}
        assert "all that is not settled is read again" in workers.log("a")


# Records are missing.


def test_records_that_retention_removed_before_they_were_read_are_passed_over_and_the_rest_runs(
    kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    with working_queue(kafka, partitions=1) as queue:
        lane = queue.names.lane(3)
        send(queue, count=1)
        with queue.worker(work):
            queue.wait_ended(1)
            wait_until(lambda: not queue.lag(), "lag 0")
        send(queue)
        # What an operator's retention does: 10 of those that nobody has read yet are gone.
        admin = AdminClient({"bootstrap.servers": kafka})
        (removed,) = admin.delete_records([TopicPartition(lane, 0, 11)]).values()
        removed.result(60)
        with queue.worker(work):
            ended = queue.wait_ended(1 + COUNT - 10)
            wait_until(lambda: not queue.lag(), "lag 0")
        assert {len(found) for found in ended.values()} == {1}
        assert f"{lane}/0 begins at 11, after the committed offset" in caplog.text


def test_a_lane_that_is_made_anew_while_no_worker_runs_is_read_from_its_beginning(queue: WorkingQueue) -> None:
    """Kafka forgets with a topic how far the group was in it."""
    with queue.worker(work):
        send(queue)
        queue.wait_ended(COUNT)
    with without(queue, queue.names.lane(3)):
        pass
    later = [queue.task("work", b'{"how":"done"}') for _ in range(COUNT)]
    queue.send(*later)
    with queue.worker(work):
        for task in later:
            queue.wait_event(task, "completed")


def test_the_table_and_the_tests_agree() -> None:
    page = (ROOT / "docs/brokers.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) >= 12
    said = "".join(path.read_text() for path in [*sorted((ROOT / "consumer").glob("*.py")), ROOT / "topics/errors.py"])
    words = re.sub(r'"\s*f?"', "", said)
    named = set()
    for row in rows:
        tests = re.findall(r"`(test_\w+)` in `(test_\w+\.py)`", row)
        assert tests, f"a row without a test: {row}"
        for name, file in tests:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file} has no {name}"
            named.add(name)
        for quoted in re.findall("“([^”]+)”", row):
            assert all(part in words for part in quoted.split("…")), f"no worker says {quoted!r}"
    files = [Path(__file__), Path(__file__).with_name("test_bad_own_broker.py")]
    here = {name for file in files for name in re.findall(r"^def (test_\w+)\(", file.read_text(), re.MULTILINE)}
    assert here - named == {"test_the_table_and_the_tests_agree"}
