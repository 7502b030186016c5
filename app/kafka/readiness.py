"""When a cluster is ready: when Kafka's own API answers and names every broker.

Invariant: it never waits for brokers that have died, and never longer than it was told to.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_ANSWER_S: Final = 0.5

_QUIET: Final[dict[str, Any]] = {
    # That nobody listens yet is what is being waited for, and no news.
    "log_level": 0,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 50,
    "allow.auto.create.topics": False,
}


def wait_until_ready(bootstrap: str, brokers: int, timeout_s: float, check: Callable[[], None]) -> bool:
    """True once list_topics answers and all brokers are in the cluster, False after `timeout_s` seconds.

    Args:
        bootstrap: `host:port`, comma-separated.
        brokers: how many there must be.
        timeout_s: how long to wait.
        check: called between attempts; what it raises ends the wait.
    """
    deadline = time.monotonic() + timeout_s
    admin = AdminClient({"bootstrap.servers": bootstrap, **_QUIET})
    while time.monotonic() < deadline:
        check()
        try:
            if len(admin.list_topics(timeout=_ANSWER_S).brokers) == brokers:
                return True
        except KafkaException:
            continue
    return False
