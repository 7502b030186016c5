"""Real Apache Kafka on this machine, without Docker: `EmbeddedKafka` in code, `fairlane kafka` in a shell.

Invariant: importing this package loads nothing: pytest does so in every run, for the fixture's sake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairlane.kafka.embedded import EmbeddedKafka

__all__ = ["EmbeddedKafka"]


def __getattr__(name: str) -> object:
    if name == "EmbeddedKafka":
        from fairlane.kafka.embedded import EmbeddedKafka

        return EmbeddedKafka
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
