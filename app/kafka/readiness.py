"""When a cluster is ready: when each broker itself answers, and names all of them.

Invariant: it never waits for brokers that have died, and never longer than it was told to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_ANSWER_S: Final = 0.5

_QUIET: Final[dict[str, Any]] = {
    # That nobody listens yet is what is being waited for, and no news.
    "log_level": 0,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 50,
}


def wait_until_ready(addresses: Collection[str], timeout_s: float, check: Callable[[], None]) -> bool:
    """True once every broker answers list_topics and names all of them, False after `timeout_s` seconds.

    Each is asked by itself: the others go on naming one that was killed until its session ends.

    Args:
        addresses: `host:port` of each broker.
        timeout_s: how long to wait.
        check: called between attempts; what it raises ends the wait.
    """
    deadline = time.monotonic() + timeout_s
    for address in addresses:
        # Fresh, so that it knows this broker only and asks no other.
        admin = AdminClient({"bootstrap.servers": address, **_QUIET})
        while not _answers(admin, len(addresses)):
            check()
            if time.monotonic() >= deadline:
                return False
    return True


def _answers(admin: AdminClient, brokers: int) -> bool:
    try:
        return len(admin.list_topics(timeout=_ANSWER_S).brokers) == brokers
    except KafkaException:
        return False
