"""What the others tell the settler, besides outcomes.

Invariant: frozen values; the settler works through them in the order in which they were told, so that who tells of a
partition's beginning before its records, and of a record before its outcome, need not wait for an answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from fairlane.consumer.delivery import Assigned
from fairlane.consumer.outcome import Outcome
from fairlane.consumer.settle_records import Record
from fairlane.topics.offset_map import OffsetMap


class Opened(NamedTuple):
    """A partition came: its tracker starts here, with the map of its last owner; `end` is that of the log now."""

    assigned: Assigned
    start: int
    end: int
    restored: OffsetMap | None


class Delivered(NamedTuple):
    """Records were read; said before anybody can have an outcome for them."""

    assigned: Assigned
    offsets: list[int]


class ReachedEnd(NamedTuple):
    """The partition was read to its end."""

    assigned: Assigned
    end: int


class RecordLosses(NamedTuple):
    """Commit that workers died on these offsets, then call `done`: only then may they start."""

    assigned: Assigned
    losses: Mapping[int, int]
    done: Callable[[], None]


class Closing(NamedTuple):
    """Settle all that came before, say that we leave in good order, and set `done`."""

    assigned: tuple[Assigned, ...]
    done: threading.Event


class Dropped(NamedTuple):
    """These are lost: whatever is open in them is somebody else's."""

    assigned: tuple[Assigned, ...]


class OwnerTurn(NamedTuple):
    """Write these records and commit this offset in one transaction, for the owner of a partition of events.

    Attributes:
        assigned: the partition.
        number: of the owner's turns.
        offset: up to which events were fed.
        records: states and tasks.
        notes: for the log, once it is in Kafka.
    """

    assigned: Assigned
    number: int
    offset: int
    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()


class Stop(NamedTuple):
    """Settle all that came before, and end."""


Message = Opened | Delivered | ReachedEnd | RecordLosses | Closing | Dropped | OwnerTurn | Stop | Outcome
