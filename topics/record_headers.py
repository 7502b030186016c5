"""The headers of a message as the Kafka client hands them out, or the reason why it cannot.

Invariant: a record that the client itself stumbles over is malformed like any other that cannot be read, and never an
exception in the thread that reads.
"""

from __future__ import annotations

from operator import methodcaller
from typing import Final, Protocol, cast

from fairlane.topics.errors import MalformedRecord
from fairlane.topics.headers import Headers


class HasHeaders(Protocol):
    """A confluent_kafka Message."""

    def headers(self) -> object:
        """A list of names and values, or None."""
        ...


_headers: Final = methodcaller("headers")
"""A call that Python checks: its interpreter, once warm, calls a method of C directly and overlooks the exception that
this one may leave behind, to be raised wherever the next check is."""


def headers_of(message: HasHeaders) -> Headers | None:
    """The headers of a message, None where it has none.

    Raises:
        MalformedRecord: the name of one is no UTF-8, which is all that Kafka asks for and more than it checks.
    """
    try:
        return cast("Headers | None", _headers(message))
    except (SystemError, UnicodeDecodeError) as error:
        # confluent-kafka 2.16 returns a list with an exception set, which a checked call makes a SystemError.
        raise MalformedRecord("the name of a header is no UTF-8, so its headers cannot be read") from error
