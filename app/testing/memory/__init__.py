"""A Kafka in memory: `MemoryBroker`, its clients, and what may go wrong between them.

Invariant: it depends on nothing of fairlane but the partitioner, so that it can be compared with Kafka by itself.
"""

from __future__ import annotations

from fairlane.testing.memory.broker import MemoryBroker
from fairlane.testing.memory.clock import Clock, WallClock
from fairlane.testing.memory.consumer import MemoryConsumer
from fairlane.testing.memory.faults import Faults
from fairlane.testing.memory.producer import MemoryProducer
from fairlane.testing.memory.transactions import Commit

__all__ = ["Clock", "Commit", "Faults", "MemoryBroker", "MemoryConsumer", "MemoryProducer", "WallClock"]
