"""The status of a task as a StatusEvent, from all that the queue knows: what `handle.status()` returns.

Invariant: a task that waits or runs has a status too, though nobody has written an event of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlane.monitor.lookup import find_task
from fairlane.topics.connection import Connection
from fairlane.topics.events import StatusEvent
from fairlane.topics.names import Lane, QueueNames, Tier


def status_of(
    connection: Connection,
    names: QueueNames,
    task_id: str,
    *,
    lanes: Sequence[Lane],
    tiers: Sequence[Tier],
    now_ms: int,
) -> StatusEvent:
    """The newest that is known of a task. Blocks.

    Args:
        connection: to Kafka.
        names: of the queue.
        task_id: id of the task.
        lanes: of the queue.
        tiers: of the queue.
        now_ms: Unix ms.

    Raises:
        TaskUnknown: nothing in the queue speaks of it (any more).
        KafkaUnreachable: no broker answered.
        QueueUnknown: there is no such queue.
    """
    view = find_task(connection, names, task_id, now_ms=now_ms, lanes=lanes, tiers=tiers)
    return view.to_event()
