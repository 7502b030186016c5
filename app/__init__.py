"""fairlane: a distributed task queue for teams that already run Kafka."""

from __future__ import annotations

__version__ = "0.1.0"
