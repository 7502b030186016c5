"""What is said while something cannot be read: what is wrong, and what to do about it.

Invariant: it changes nothing about reading, and says the same thing ever more rarely while it lasts.
"""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError

from fairlane.consumer.remedies import MISSING, WHEN, Remedies
from fairlane.topics.denial import DENIALS
from fairlane.topics.trouble import Trouble

_logger = logging.getLogger("fairlane.reader")


class ReadTrouble:
    """Speaks for one reader.

    Args:
        remedies: of its worker.
    """

    def __init__(self, remedies: Remedies) -> None:
        self._remedies = remedies
        self._trouble = Trouble()

    def failed(self, error: KafkaError, topic: str, now_s: float) -> None:
        """A topic cannot be read; the client goes on trying."""
        code = error.name()
        if not self._trouble.tell(f"{topic} {code}", now_s):
            return
        extra = {"topic": topic, "kafka_error": code}
        if topic and (code == "TOPIC_AUTHORIZATION_FAILED" or code in MISSING):
            remedy = self._remedies.of_topic(code, topic, "Read")
            _logger.error("topic %s cannot be read (%s). %s; %s", topic, code, remedy, WHEN, extra=extra)
        elif code in DENIALS:
            _logger.error(
                "nothing can be read: %s. %s; %s", error.str(), self._remedies.of_call(code), WHEN, extra=extra
            )
        else:
            _logger.log(logging.INFO if error.retriable() else logging.WARNING, "reading: %s", error.str(), extra=extra)

    def lost(self, cause: Exception, code: str, now_s: float) -> None:
        """Nothing is read any more; a new consumer joins the group."""
        if not self._trouble.tell(code or str(cause), now_s):
            return
        remedy = self._remedies.of_call(code)
        if remedy:
            _logger.error("nothing can be read: %s. %s; %s", cause, remedy, WHEN)
        else:
            _logger.warning("%s; joining again", cause)

    def over(self, now_s: float) -> None:
        """Partitions came: it is read again."""
        self._trouble.over(now_s)
