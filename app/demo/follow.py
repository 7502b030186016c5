"""What the demo asks of Kafka while it runs: new status events, dead letters, the lag of the group.

Invariant: it only reads, what is settled only, and each event once.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Final, Self

from fairlane.monitor.dlq import list_letters
from fairlane.monitor.letter import Letter
from fairlane.monitor.letter_filter import LetterFilter
from fairlane.monitor.record import headers_of
from fairlane.monitor.scan import BEGINNING, Scanner
from fairlane.monitor.snapshot import Watcher
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.events import StatusEvent, decode_status
from fairlane.topics.names import QueueNames

_TIMEOUT_S: Final = 20.0
_LETTERS: Final = 1_000
_TICK_S: Final = 0.1


class Follower:
    """Reads the status topic of a queue, on and on."""

    def __init__(self, connection: Connection, names: QueueNames) -> None:
        self._topic = names.status
        self._scanner = Scanner(connection, timeout_s=_TIMEOUT_S, group=names.group)
        self._partitions = self._scanner.partitions()[names.status]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._scanner.close()

    def skip(self) -> None:
        """Forget what was said until now."""
        for _ in self.news():
            pass

    def news(self) -> Iterator[tuple[str, StatusEvent]]:
        """Origin and event of each status that is new since the last time."""
        self._scanner.renew()
        partitions = [(self._topic, number) for number in range(self._partitions)]
        for message in self._scanner.read({each: self._scanner.ends.get(each, BEGINNING) for each in partitions}):
            event = decode_status(message.value() or b"")
            if event is not None:
                origin = dict(headers_of(message)).get("fairlane-origin") or b""
                yield origin.decode("utf-8", "replace"), event


def letters_of(connection: Connection, names: QueueNames, origins: Collection[str]) -> list[Letter]:
    """The dead letters of some tasks, the first first."""
    listing = list_letters(connection, names, LetterFilter(), limit=_LETTERS, timeout_s=_TIMEOUT_S)
    return [listed.letter for listed in reversed(listing.letters) if listed.letter.origin in origins]


def lag_of(connection: Connection, names: QueueNames, timeout_s: float) -> int:
    """The lag of the queue's consumer group as Kafka has it: 0 as soon as it is, else what is left after the time."""
    deadline = time.monotonic() + timeout_s
    with Watcher(connection, names, timeout_s=_TIMEOUT_S) as watcher:
        while (lag := watcher.collect(now_ms()).lag) and time.monotonic() < deadline:
            time.sleep(_TICK_S)
    return lag
