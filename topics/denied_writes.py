"""Which topics a transaction may not write to: librdkafka says so in its log, and nowhere else.

Invariant: what it was told of one transaction is forgotten before the next. Kafka refuses such a topic when it is added
to the transaction, before any record is sent, so that no delivery report names it; the error of the commit names none.
"""

from __future__ import annotations

import re
from typing import Any, Final

from fairlane.topics.client_log import librdkafka_log

_ADDED: Final = re.compile(r'Failed to add partition "([^"]+)" .*: Broker: Topic authorization failed')


class DeniedWrites:
    """Stands between a producer and the log: `Producer(properties, logger=DeniedWrites())`; called while it is polled.

    Attributes:
        topics: those of the transaction that is open.
    """

    def __init__(self) -> None:
        self.topics: set[str] = set()

    def log(self, level: int, message: str, *args: Any) -> None:
        """Take a line of librdkafka's, and pass it on."""
        found = _ADDED.search(message % args if args else message)
        if found:
            self.topics.add(found[1])
        librdkafka_log.log(level, message, *args)
