"""Kafka in a container, by testcontainers: the way to test against the image that others run.

Invariant: it has the same quick sessions as the embedded Kafka, so that a test waits equally long on both.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fairlane.kafka.properties import ClusterShape, Node, server_properties

IMAGE = "confluentinc/cp-kafka:8.1.0"

PLACES = ("process.roles", "node.id", "controller.", "listeners", "advertised.", "listener.", "log.dirs")


@contextmanager
def kafka_container(image: str = IMAGE) -> Iterator[str]:
    """Bootstrap servers of `image` in KRaft mode, for the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from testcontainers.kafka import KafkaContainer

        container = KafkaContainer(image).with_kraft()
    for name, value in container_settings().items():
        container.with_env(f"KAFKA_{name.replace('.', '_').upper()}", value)
    with container:
        yield container.get_bootstrap_server()


def container_settings() -> dict[str, str]:
    """The embedded broker's settings, without those that say where it listens and writes: the image has its own."""
    from pathlib import Path

    node = Node(1, 9092, 9093)
    properties = server_properties(ClusterShape((node,), Path("/unused")), node)
    return {name: value for name, value in properties.items() if not name.startswith(PLACES)}
