"""Fixtures that every test may ask for: a real Kafka, a cluster of three, the name of a queue that nobody else uses.

Invariant: the whole session uses one Kafka: the one that KAFKA_BOOTSTRAP_SERVERS names, else a container if
FAIRLANE_TEST_KAFKA=testcontainers, else the embedded one. Each process of `make test JOBS=3` is a session, with a Kafka
of its own unless one is named; the tests of a file are run by one process, in their order.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import properties
import pytest
from kafka_container import kafka_container
from secured_kafka import SecuredKafka, secured_kafka
from written_queue import WrittenQueue

from fairlane.kafka import EmbeddedKafka


def pytest_configure(config: pytest.Config) -> None:
    properties.load_profile(seeded=config.getoption("--hypothesis-seed") is not None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes none must begin last with what waits for long: with the tests that need Kafka."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("kafka") is None)


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> str:
    """Bootstrap servers of a real Kafka, started on the first use."""
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        return named
    if os.environ.get("FAIRLANE_TEST_KAFKA") == "testcontainers":
        container: str = request.getfixturevalue("contained_kafka")
        return container
    embedded: EmbeddedKafka = request.getfixturevalue("embedded_kafka")
    return embedded.bootstrap


@pytest.fixture(scope="session")
def contained_kafka() -> Iterator[str]:
    """Bootstrap servers of a Kafka in a container."""
    with kafka_container() as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def cluster_of_three() -> Iterator[EmbeddedKafka]:
    """Three brokers, replication 3, min.isr 2. A test may `kill(id)` and must `restart(id)`: it is shared."""
    with EmbeddedKafka(brokers=3) as kafka:
        yield kafka


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One broker that allows nobody anything, with doors for TLS, SCRAM and OAUTHBEARER."""
    with secured_kafka(tmp_path_factory.mktemp("certificates")) as kafka:
        yield kafka


@pytest.fixture
def queue() -> str:
    """The name of a queue that nobody else uses."""
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def written(kafka: str, queue: str) -> Iterator[WrittenQueue]:
    """A queue whose records a test writes itself."""
    written = WrittenQueue(kafka, queue)
    yield written
    written.delete()
