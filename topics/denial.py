"""What Kafka's "not authorised" means: which right is missing, and what gives it.

Invariant: an error of Kafka's says of which kind the resource is and never which operation was missing; whoever asked
knows that, and says it here, so that no error leaves anybody to guess. What does not stop anything is told once.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from confluent_kafka import KafkaError

from fairlane.topics.connection import Connection
from fairlane.topics.errors import RightMissing
from fairlane.topics.rights import Operation, Right
from fairlane.topics.trouble import Trouble

_KINDS: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional-id",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
}

DENIALS: Final = frozenset(KafkaError(code).name() for code in _KINDS)
"""Kafka's names of these errors."""


def is_denial(error: KafkaError) -> bool:
    """Whether Kafka says that a right is missing."""
    return error.code() in _KINDS


def missing(error: KafkaError, action: str, connection: Connection, *asked: Right) -> RightMissing:
    """The error for a call that was denied.

    Args:
        error: Kafka's.
        action: what was to be done, as in "Kafka refused to …".
        connection: who asked.
        asked: the rights that the call needs; the one of the kind that the error is about is meant.
    """
    kind = _KINDS[error.code()]
    right = next((each for each in asked if each.resource == kind), None) or asked[0]
    return RightMissing(
        code=error.name(),
        detail=error.str().rstrip("."),
        action=action,
        operation=right.operation,
        resource=right.resource,
        name=right.name,
        principal=connection.principal,
    )


def on_topic(operation: Operation, topic: str) -> Right:
    """The right to do something with a topic."""
    return Right("topic", topic, operation)


def on_group(operation: Operation, group: str) -> Right:
    """The right to do something with a consumer group."""
    return Right("group", group, operation)


def on_transactions(transactional_id: str) -> Right:
    """The right to transactions of an id."""
    return Right("transactional-id", transactional_id, "Write")


class Denials:
    """Tells the log which rights are missing for what is tried again and again: each at once, then ever more rarely.

    Args:
        connection: who asks.
        logger: where it is told.
    """

    def __init__(self, connection: Connection, logger: logging.Logger) -> None:
        self._connection = connection
        self._logger = logger
        self._trouble = Trouble()

    def tell(self, error: KafkaError, action: str, *asked: Right) -> bool:
        """Tell of an error if it is a denial; arguments as for `missing`.

        Returns:
            Whether it is one.
        """
        if not is_denial(error):
            return False
        found = missing(error, action, self._connection, *asked)
        if self._trouble.tell(f"{found.operation} {found.resource} {found.name}", time.monotonic()):
            self._logger.error("%s. It goes on when it has it", found, extra={"kafka_error": found.code})
        return True
