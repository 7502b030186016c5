"""What an operator does about what Kafka says no to, in the words of the log.

Invariant: a remedy is a whole sentence that names the resource; what is no operator's to mend has none.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

from fairlane.topics.connection import Connection
from fairlane.topics.denial import DENIALS
from fairlane.topics.errors import RightMissing
from fairlane.topics.names import QueueNames
from fairlane.topics.rights import Operation, Right

MISSING: Final = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION"})
WHEN: Final = "work goes on by itself when that is mended"
_BY_WORDS: Final = {KafkaError(getattr(KafkaError, name)).str(): name for name in DENIALS}


def code_of(error: KafkaError) -> str:
    """Kafka's name of an error; of a fatal one that of its cause, which librdkafka only says in words."""
    return next((name for words, name in _BY_WORDS.items() if words in error.str()), error.name())


class Remedies:
    """Of one worker.

    Args:
        names: of the queue's topics.
        connection: who it is for Kafka.
    """

    def __init__(self, names: QueueNames, connection: Connection) -> None:
        self.names = names
        self._principal = connection.principal

    def of_topic(self, code: str, topic: str, operation: Operation) -> str:
        """What to do where a topic is refused.

        Args:
            code: Kafka's name of the error.
            topic: its name.
            operation: what was to be done to it.
        """
        if code in MISSING:
            return f"Make it again: `fairlane topics create --queue {self.names.queue}`"
        if code in DENIALS:
            return self._lacks(code, Right("topic", topic, operation))
        return f"`fairlane topics check --queue {self.names.queue}` says what is wrong"

    def of_call(self, code: str) -> str:
        """What to do where a call is denied that is about no single topic; empty where Kafka denied nothing."""
        group = self.names.group
        match code:
            case "GROUP_AUTHORIZATION_FAILED":
                return self._lacks(code, Right("group", group, "Read"))
            case "TRANSACTIONAL_ID_AUTHORIZATION_FAILED":
                return self._lacks(code, Right("transactional-id", f"{group}-", "Write", prefixed=True))
            case "TOPIC_AUTHORIZATION_FAILED":
                return "A right to one of the topics is missing: `fairlane topics acls` shows all that a worker needs"
            case _:
                return ""

    def _lacks(self, code: str, right: Right) -> str:
        return RightMissing(
            code=code,
            operation=right.operation,
            resource=right.resource,
            name=right.name,
            principal=self._principal,
        ).advice
