"""A broker of these tests' own: its worker is denied rights, and its disk is full. Nothing acknowledged is lost, the
worker says what is wrong and what to do about it, and goes on by itself when it is mended (docs/brokers.md).
"""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from broken_kafka import COUNT, ONCE, complaints, ends, send, wait_complaint, work
from denied import AUTHORIZER, GROUP, TOPIC, TRANSACTIONAL_ID, denied
from live_queue import headers_of, wait_until
from working_queue import WorkingQueue, working_queue

from fairlane.consumer import transaction
from fairlane.kafka import EmbeddedKafka

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedKafka]:
    """A broker of these tests' own, with an authorizer."""
    with EmbeddedKafka(properties=AUTHORIZER) as kafka:
        yield kafka


@pytest.fixture
def own(broker: EmbeddedKafka) -> Iterator[WorkingQueue]:
    """A queue on that broker."""
    with working_queue(broker.bootstrap, partitions=2) as queue:
        yield queue


@pytest.mark.parametrize(("refused", "how", "state"), [("dlq", "dead", "failed"), ("status", "done", "completed")])
def test_a_topic_that_may_not_be_written_is_named_and_when_it_may_all_are_settled_once(
    own: WorkingQueue, refused: str, how: str, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fairlane")
    topic = f"{own.names.queue}.{refused}"
    with own.worker(work, policies={"work": {"retry": ONCE}}):
        with denied(own.bootstrap, TOPIC, topic, "WRITE"):
            send(own, how)
            wait_complaint(caplog, f" has no right to Write topic {topic}")
            assert not own.terminal()
        wait_until(lambda: ends(own) == {state: COUNT}, "all to end, once each")
    assert len(own.letters()) == (COUNT if how == "dead" else 0)
    assert "settling again, after " in caplog.text
    assert len(complaints(caplog)) <= 2, complaints(caplog)


def test_a_topic_of_somebody_elses_that_may_not_be_written_costs_only_the_tasks_that_wrote_to_it(
    own: WorkingQueue,
) -> None:
    """Kafka refuses the transaction and not the record: whose doing it was has to be found out."""
    topic = f"{own.names.queue}.audit"
    with denied(own.bootstrap, TOPIC, topic, "WRITE"), own.worker(work):
        send(own, f"emit {topic}", 1)
        send(own)
        own.wait_ended(1 + COUNT)
    assert ends(own) == {"completed": COUNT, "failed": 1}
    (letter,) = own.letters()
    assert headers_of(letter)["fairlane-reason"] == b"outbox_failed"


def test_a_lane_that_may_not_be_read_is_named_and_read_on_when_it_may(
    own: WorkingQueue, caplog: pytest.LogCaptureFixture
) -> None:
    lane = own.names.lane(3)
    with own.worker(work):
        send(own)
        own.wait_ended(COUNT)
        with denied(own.bootstrap, TOPIC, lane, "READ"):
            send(own)
            wait_complaint(caplog, f" has no right to Read topic {lane}")
        send(own)
        wait_until(lambda: ends(own) == {"completed": 3 * COUNT}, "all to end, once each")
    assert len(complaints(caplog)) <= 3, complaints(caplog)


@pytest.mark.parametrize("when", ["before it starts", "while it works"])
def test_a_group_that_may_not_be_read_is_named_and_joined_again_when_it_may(
    own: WorkingQueue, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = denied(own.bootstrap, GROUP, own.names.group, "READ")
    if when == "before it starts":
        refusal.__enter__()
    with own.worker(work):
        if when == "while it works":
            send(own, count=1)
            own.wait_ended(1)
            refusal.__enter__()
        send(own)
        wait_complaint(caplog, "nothing can be read: ")
        assert f" has no right to Read group {own.names.group}" in caplog.text
        refusal.__exit__(None, None, None)
        count = COUNT + (when == "while it works")
        wait_until(lambda: ends(own) == {"completed": count}, "all to end, once each")
    assert len(complaints(caplog)) <= 4, complaints(caplog)


@pytest.mark.parametrize("when", ["before it starts", "while it works"])
def test_transactions_that_may_not_begin_are_named_and_begun_when_they_may(
    own: WorkingQueue, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = denied(own.bootstrap, TRANSACTIONAL_ID, f"{own.names.group}-", "WRITE")
    if when == "before it starts":
        refusal.__enter__()
    with own.worker(work):
        if when == "while it works":
            send(own, count=1)
            own.wait_ended(1)
            refusal.__enter__()
        send(own)
        says = f" has no right to Write transactional-id {own.names.group}-"
        wait_complaint(caplog, says)
        refusal.__exit__(None, None, None)
        count = COUNT + (when == "while it works")
        wait_until(lambda: ends(own) == {"completed": count}, "all to end, once each")
    assert len(complaints(caplog)) <= 4, complaints(caplog)


@contextmanager
def quick_calls(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Librdkafka may never answer a call after a restart: a test need not wait for 15 s for it."""
    patch.setattr(transaction, "CALL_TIMEOUT_S", 3.0)
    patch.setattr(transaction, "GRACE_S", 1.0)
    yield


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_a_disk_that_is_full_ends_the_broker_and_when_it_is_back_all_are_settled_once(
    broker: EmbeddedKafka, own: WorkingQueue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes no byte more is played by a limit of the broker's files. Its coordinators load anew then."""
    caplog.set_level(logging.INFO, "fairlane")
    with quick_calls(monkeypatch), own.worker(work):
        send(own)
        own.wait_ended(COUNT)
        send(own)
        server = broker.cluster.brokers[1]
        assert server.mark is not None
        resource.prlimit(server.mark.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        wait_until(lambda: not server.is_alive(), "the broker ends")
        wait_complaint(caplog, f"no heartbeat arrives: Kafka at {own.bootstrap} does not take it")
        broker.restart(1)
        send(own)
        wait_until(lambda: ends(own) == {"completed": 3 * COUNT}, "all to end, once each")
        wait_until(lambda: "heartbeats arrive again" in caplog.text, "heartbeats again")
    assert len(complaints(caplog)) <= 6, complaints(caplog)
