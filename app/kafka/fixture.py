"""The pytest plugin: the fixture `embedded_kafka`, registered for everybody who has fairlane installed.

Invariant: pytest loads this file in every run, so it imports nothing until the fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fairlane.kafka import EmbeddedKafka


@pytest.fixture(scope="session")
def embedded_kafka() -> Iterator[EmbeddedKafka]:
    """One broker of real Apache Kafka for the whole session, on temporary data, at `embedded_kafka.bootstrap`."""
    from fairlane.kafka import EmbeddedKafka

    with EmbeddedKafka() as kafka:
        yield kafka
