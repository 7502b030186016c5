"""The errors of an in-memory broker, as confluent-kafka raises them, with librdkafka's flags.

Invariant: what is retriable, asks for an abort or is fatal is what a real broker's answer becomes in the real client;
the conformance tests hold it.
"""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException


def failure(code: int, words: str = "") -> KafkaException:
    """An error that says nothing of what is to follow."""
    return KafkaException(KafkaError(code, words))


def retriable(code: int, words: str = "") -> KafkaException:
    """An error after which the same call may be made again."""
    return KafkaException(KafkaError(code, words, retriable=True))


def must_abort(code: int, words: str = "") -> KafkaException:
    """An error after which the transaction must be aborted."""
    return KafkaException(KafkaError(code, words, txn_requires_abort=True))


def fatal(code: int, words: str = "") -> KafkaException:
    """An error after which the client is of no further use."""
    return KafkaException(KafkaError(code, words, fatal=True))


def fenced() -> KafkaException:
    """The transactional id was initialised again, or its transaction was open for too long."""
    return fatal(KafkaError._FENCED, "This instance has been fenced by a newer instance")  # noqa: SLF001
