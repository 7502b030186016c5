"""librdkafka's own log.

Invariant: nothing of librdkafka's goes to stderr by itself, and what it logs is heard only by who debugs: all of it
comes back as an error of some call too, and is told there with what follows from it. No secret is in it.
"""

from __future__ import annotations

import logging
from typing import Final

from fairlane.topics.secrets import redacted

_fairlane: Final = logging.getLogger("fairlane")


def _while_debugging(record: logging.LogRecord) -> bool:
    if not _fairlane.isEnabledFor(logging.DEBUG):
        return False
    # librdkafka leaves out what it knows to be secret; what it quotes of a token it does not.
    record.msg, record.args = redacted(record.getMessage()), ()
    return True


librdkafka_log: Final = logging.getLogger("fairlane.librdkafka")
"""Give it to every client: `Consumer(properties, logger=librdkafka_log)`."""

librdkafka_log.addHandler(logging.NullHandler())
librdkafka_log.addFilter(_while_debugging)
