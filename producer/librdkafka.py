"""What librdkafka thinks of the properties that it is given."""

from __future__ import annotations

from confluent_kafka import KafkaException

from fairlane.topics.errors import UsageError
from fairlane.topics.secrets import redacted


def property_refused(error: KafkaException) -> UsageError:
    """The error for properties that librdkafka does not accept."""
    return UsageError(f"librdkafka refuses a property: {redacted(error.args[0].str())}", "See -X and FAIRLANE_KAFKA__*")
