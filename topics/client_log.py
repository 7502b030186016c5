"""librdkafka's own log.

Invariant: nothing of librdkafka's goes to stderr by itself, and what it logs is heard only by who debugs: all of it
comes back as an error of some call too, and is told there with what follows from it.
"""

from __future__ import annotations

import logging
from typing import Final

_fairlane: Final = logging.getLogger("fairlane")


def _while_debugging(_record: logging.LogRecord) -> bool:
    return _fairlane.isEnabledFor(logging.DEBUG)


librdkafka_log: Final = logging.getLogger("fairlane.librdkafka")
"""Give it to every client: `Consumer(properties, logger=librdkafka_log)`."""

librdkafka_log.addHandler(logging.NullHandler())
librdkafka_log.addFilter(_while_debugging)
