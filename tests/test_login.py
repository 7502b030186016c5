"""A login is refused when Kafka says so; a connection that is cut in the middle of one is another matter, and mends.

What do these tests do? They ask about the texts of librdkafka 2.16, and let each of our clients log in through a proxy
that cuts the connection at one step of the handshake, a few times or always.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from chaos.proxy import HOST, Proxy
from confluent_kafka import KafkaError
from live_queue import a_task, parcel
from secured_kafka import SecuredKafka, User
from working_queue import WorkingQueue, working_queue

from fairlane.consumer.pool import WorkerPool
from fairlane.producer import TaskProducer
from fairlane.topics.errors import KafkaRefused, KafkaUnreachable
from fairlane.topics.login import is_refused
from fairlane.topics.reader import TopicReader
from fairlane.topics.rights import rights_of
from fairlane.topics.topology import Topology

SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36
STEPS = pytest.mark.parametrize("step", [SASL_HANDSHAKE, SASL_AUTHENTICATE])
AT = "sasl_plaintext://127.0.0.1:9092/bootstrap: "


@pytest.mark.parametrize(
    ("code", "text", "refused"),
    [
        # What a broker answers.
        (
            KafkaError._AUTHENTICATION,
            "SASL authentication error: Authentication failed during authentication due to invalid credentials "
            "with SASL mechanism SCRAM-SHA-512 (after 12ms in state AUTH_REQ)",
            True,
        ),
        (
            KafkaError._AUTHENTICATION,
            "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: "
            "broker's supported mechanisms: SCRAM-SHA-512 (after 1ms in state AUTH_HANDSHAKE)",
            True,
        ),
        (
            KafkaError._AUTHENTICATION,
            "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: "
            "broker's supported mechanisms:  (after 1ms in state AUTH_HANDSHAKE)",
            True,
        ),
        (KafkaError.SASL_AUTHENTICATION_FAILED, "Broker: SASL Authentication failed", True),
        (KafkaError._AUTHENTICATION, "Local: Authentication failure", True),
        # What cannot be sent to one.
        (KafkaError._AUTHENTICATION, "Failed to acquire SASL OAUTHBEARER token: no such user", True),
        # What no broker has said.
        (
            KafkaError._AUTHENTICATION,
            "SASL SCRAM-SHA-512 mechanism handshake failed: Local: Broker transport failure: "
            "broker's supported mechanisms: (n/a) (after 3ms in state AUTH_HANDSHAKE)",
            False,
        ),
        (
            KafkaError._AUTHENTICATION,
            "SASL SCRAM-SHA-512 mechanism handshake failed: Local: Timed out: "
            "broker's supported mechanisms: (n/a) (after 10000ms in state AUTH_HANDSHAKE)",
            False,
        ),
        (
            KafkaError._AUTHENTICATION,
            "SASL authentication failure: Disconnected: check client SCRAM-SHA-512 credentials and broker logs",
            False,
        ),
        (KafkaError._AUTHENTICATION, "Disconnected: hung up from peer in state AUTH_LEGACY", False),
        (
            KafkaError._TRANSPORT,
            "SASL authentication error: SaslAuthenticateRequest failed: Local: Broker transport failure",
            False,
        ),
        (KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down", False),
    ],
)
def test_a_login_is_refused_if_a_broker_says_so_and_not_if_nobody_does(code: int, text: str, refused: bool) -> None:
    assert is_refused(KafkaError(code, AT + text)) is refused


@contextmanager
def cutting(user: User, step: int, times: int | None = None) -> Iterator[User]:
    """Somebody who reaches Kafka only through a proxy that cuts this step of a login, so often or always."""
    met = 0

    def cuts(chunk: bytes) -> bool:
        nonlocal met
        # Of each request of the protocol the first four bytes are its length, and the next two say what it asks.
        if int.from_bytes(chunk[4:6]) != step:
            return False
        met += 1
        return times is None or met <= times

    port = int(user.bootstrap.rpartition(":")[2])
    proxy = Proxy([port], cuts)
    proxy.start()
    try:
        yield replace(user, bootstrap=f"{HOST}:{proxy.addresses[port]}")
        assert met >= (times or 1), "nobody was cut so often"
    finally:
        proxy.stop()


@pytest.fixture(scope="module")
def queue(secured: SecuredKafka) -> Iterator[WorkingQueue]:
    with working_queue(secured.admin.bootstrap, partitions=1) as found:
        yield found


@pytest.fixture(scope="module")
def user(secured: SecuredKafka, queue: WorkingQueue) -> User:
    """One who may produce and work."""
    found = secured.user("all")
    topology = Topology.of(queue.names, partitions=1)
    for role in ("producer", "worker"):
        secured.give(found, rights_of(role, topology))
    return found


@pytest.mark.kafka
@STEPS
def test_who_asks_about_topics_goes_on_when_its_logins_are_cut(user: User, step: int) -> None:
    with cutting(user, step, times=3) as cut:
        assert TopicReader(cut.connection, timeout_s=20).brokers() == 1


@pytest.mark.kafka
@STEPS
def test_a_producer_enqueues_when_its_logins_are_cut(user: User, queue: WorkingQueue, step: int) -> None:
    with cutting(user, step, times=3) as cut:
        producer = TaskProducer(cut.connection, queue.names, enqueue_timeout_s=20)
        try:
            producer.enqueue(parcel(a_task(queue.names)))
        finally:
            producer.close()


@pytest.mark.kafka
@STEPS
def test_a_worker_begins_and_works_when_its_logins_are_cut(user: User, queue: WorkingQueue, step: int) -> None:
    async def work() -> None:
        return None

    task = queue.task("work")
    queue.send(task)
    with cutting(user, step, times=8) as cut:
        pool = WorkerPool(replace(queue.config(), connection=cut.connection))
        pool.register_handler("work", work)
        with pool:
            queue.wait_event(task, "completed")


@pytest.mark.kafka
@STEPS
def test_who_is_always_cut_is_told_that_kafka_cannot_be_reached(user: User, queue: WorkingQueue, step: int) -> None:
    with cutting(user, step) as cut:
        with pytest.raises(KafkaUnreachable, match="Broker transport failure"):
            TopicReader(cut.connection, timeout_s=1.5).brokers()
        producer = TaskProducer(cut.connection, queue.names, enqueue_timeout_s=1.5)
        try:
            with pytest.raises(KafkaUnreachable, match="Broker transport failure"):
                producer.enqueue(parcel(a_task(queue.names)))
        finally:
            producer.close()


@pytest.mark.kafka
def test_a_wrong_password_is_told_at_once_to_whoever_asks(user: User, queue: WorkingQueue) -> None:
    wrong = replace(user, password="not-the-password")
    began = time.monotonic()
    reader = TopicReader(wrong.connection, timeout_s=30)
    worker = WorkerPool(replace(queue.config(), connection=wrong.connection))
    for ask in (reader.brokers, lambda: reader.topics_of(queue.names), worker.start):
        with pytest.raises(KafkaRefused, match="invalid credentials"):
            ask()
    producer = TaskProducer(wrong.connection, queue.names, enqueue_timeout_s=30)
    try:
        with pytest.raises(KafkaRefused, match="invalid credentials"):
            producer.enqueue(parcel(a_task(queue.names)))
    finally:
        producer.close()
    assert time.monotonic() - began < 20
