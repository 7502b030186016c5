"""What librdkafka says, to whom: its log, and its opinion of the properties that it is given.

Invariant: nothing of librdkafka's goes to stderr by itself; what it logs comes back as an error of some call, too.
"""

from __future__ import annotations

import logging
from typing import Final

from confluent_kafka import KafkaException

from fairlane.topics.errors import UsageError

librdkafka_log: Final = logging.getLogger("fairlane.librdkafka")
librdkafka_log.addHandler(logging.NullHandler())


def property_refused(error: KafkaException) -> UsageError:
    """The error for properties that librdkafka does not accept."""
    return UsageError(f"librdkafka refuses a property: {error.args[0].str()}", "See -X and FAIRLANE_KAFKA__*")
