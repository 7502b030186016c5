"""What the reader, the settler and operators tell the feed, besides deliveries.

Invariant: frozen values; the feed works through them in the order in which they were told.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

from fairlane.consumer.delivery import Assigned
from fairlane.consumer.orders import Orders
from fairlane.topics.offset_map import OffsetMap


class TakenOver(NamedTuple):
    """A partition came, with the map of its last owner; `end` is that of the log now."""

    assigned: Assigned
    restored: OffsetMap | None
    end: int


class Recorded(NamedTuple):
    """The losses of suspects are committed, so these may start."""

    assigned: Assigned
    known: OffsetMap


class Revoke(NamedTuple):
    """These leave: start nothing more of theirs, and set `quiet` when nothing of theirs runs."""

    assigned: frozenset[Assigned]
    quiet: threading.Event


class Obey(NamedTuple):
    """What operators ask for from now on, and the weights of all lanes."""

    orders: Orders
    weights: Mapping[str, int]


class CaughtUp(NamedTuple):
    """Every lane was read to its end, or as far ahead as it may be."""
