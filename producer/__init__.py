"""The enqueue side: tasks on their way into Kafka, and what became of them."""

from __future__ import annotations

from fairlane.producer.handle import TaskHandle, from_json
from fairlane.producer.producer import Parcel, TaskProducer

__all__ = ["Parcel", "TaskHandle", "TaskProducer", "from_json"]
