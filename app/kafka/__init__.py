"""Real Apache Kafka on this machine, without Docker: `EmbeddedKafka` in code, `fairlane kafka` in a shell.

Invariant: importing this package costs nothing: jars, Java and the Kafka client are looked at when something starts.
"""

from __future__ import annotations

from fairlane.kafka.embedded import EmbeddedKafka

__all__ = ["EmbeddedKafka"]
