"""Whether Kafka refused a login: that is for good, and a connection that was cut in the middle of one is not.

Invariant: a login is refused only if the client had Kafka's word for it, or could not begin it at all. librdkafka gives
one code, `_AUTHENTICATION`, to both, and says in its text which of them it was (rdkafka_broker.c,
rd_kafka_broker_handle_SaslHandshake; rdkafka_transport.c; rdkafka_request.c, rd_kafka_handle_SaslAuthenticate).
"""

from __future__ import annotations

import re
from typing import Final

from confluent_kafka import KafkaError

from fairlane.topics.errors import KafkaRefused

_SAYS_NO: Final = frozenset(
    {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.UNSUPPORTED_SASL_MECHANISM}
)

_NO_ANSWER: Final = re.compile(r"\bmechanism handshake failed: Local: |: Disconnected: ")
"""A handshake that failed by an error of librdkafka's own (those of a broker are "Broker: …") had no answer, and nor
had one that was hung up on: Kafka says why before it does so (KIP-152)."""


def is_refused(error: KafkaError) -> bool:
    """Whether a login failed for good: asking again does not mend it.

    Args:
        error: as librdkafka tells its `error_cb`.
    """
    return error.code() in _SAYS_NO and _NO_ANSWER.search(error.str()) is None


def refused_login(error: KafkaError) -> KafkaRefused:
    """The error for a login that was refused."""
    return KafkaRefused(
        error.name().lstrip("_"), error.str(), "let this user in", "Look at sasl.* and security.protocol"
    )
