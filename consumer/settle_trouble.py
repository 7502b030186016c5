"""What is said while nothing can be settled: what is wrong, what to do about it, and that it is over.

Invariant: it changes nothing about a settlement, and says the same thing ever more rarely while it lasts.
"""

from __future__ import annotations

import logging

from fairlane.consumer.remedies import MISSING, WHEN, Remedies
from fairlane.consumer.transaction import Aborted, ProducerGivenUp
from fairlane.topics.denial import DENIALS
from fairlane.topics.trouble import Trouble

_logger = logging.getLogger("fairlane.settler")


class SettleTrouble:
    """Speaks for one settler.

    Args:
        remedies: of its worker.
    """

    def __init__(self, remedies: Remedies) -> None:
        self._remedies = remedies
        self._trouble = Trouble()

    def stuck(self, error: Aborted, failures: int, now_s: float) -> None:
        """A settlement was aborted so often in a row, and is tried again."""
        if error.refusals:
            refusal = error.refusals[0]
            # Kafka and its client each have a word for a topic that is not there.
            what = "missing" if refusal.code in MISSING else refusal.code
            if self._trouble.tell(f"{refusal.topic} {what}", now_s):
                remedy = self._remedies.of_topic(refusal.code, refusal.topic, "Write")
                _logger.error(
                    "nothing can be settled: Kafka refuses topic %s (%s). %s; %s",
                    refusal.topic,
                    refusal.code,
                    remedy,
                    WHEN,
                )
        elif error.code in DENIALS:
            # A topic that Kafka was asked for in vain was told before, or is allowed again by now.
            told_before = error.code == "TOPIC_AUTHORIZATION_FAILED" and self._trouble.lasts
            if not told_before and self._trouble.tell(error.code, now_s):
                remedy = self._remedies.of_call(error.code)
                _logger.error("nothing can be settled: %s. %s; %s", error, remedy, WHEN)
        elif error.late:
            topic = error.late[0].topic
            if self._trouble.tell(f"{topic} late", now_s):
                _logger.warning(
                    "nothing can be settled: Kafka takes no record on topic %s in time. Look whether its brokers "
                    "run, have room on their disks, and have enough replicas in sync; %s",
                    topic,
                    WHEN,
                )
        elif failures > 1 and not self._trouble.lasts and self._trouble.tell("aborted", now_s):
            _logger.warning("a settlement was aborted %d times in a row, and is tried again: %s", failures, error)

    def given_up(self, error: ProducerGivenUp, now_s: float) -> None:
        """A producer was given up, and everything that is not settled is read again."""
        if self._trouble.tell(f"given up {error.code}", now_s):
            _logger.warning("the producer was given up, and all that is not settled is read again: %s", error)

    def cannot_begin(self, error: ProducerGivenUp, now_s: float) -> None:
        """A new producer cannot begin, and another one is made."""
        if self._trouble.tell(f"begin {error.code}", now_s):
            remedy = self._remedies.of_call(error.code)
            _logger.error("nothing can be settled: %s. %s", error, f"{remedy}; {WHEN}" if remedy else "Trying again")

    def over(self, now_s: float) -> None:
        """A settlement went through."""
        lasted_s = self._trouble.over(now_s)
        if lasted_s is not None:
            _logger.info("settling again, after %.0f s", lasted_s)
