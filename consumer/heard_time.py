"""The time by which workers are called silent: that of the topic of heartbeats, without its own pauses.

Invariant: it goes on only as fast as somebody is heard. Where nobody could write a heartbeat for a while (the leader of
their topic was away), the first one after that must not make all others look dead who come a moment later.
"""

from __future__ import annotations

from typing import Final

PAUSE_MS: Final = 2_000
"""Our own heartbeat is in the topic every second: longer than this, the topic stood still."""


class HeardTime:
    """Turns the times at which brokers appended heartbeats into times without pauses.

    Args:
        longest_ms: a longer pause is none of the topic's: no worker ran, and all of it counts, milliseconds.
    """

    def __init__(self, longest_ms: int) -> None:
        self._longest_ms = longest_ms
        self._newest_ms = 0
        self._paused_ms = 0

    def of(self, appended_ms: int) -> int:
        """The time of the next heartbeat, Unix ms less the pauses so far.

        Args:
            appended_ms: when the broker appended it, Unix ms.
        """
        pause_ms = appended_ms - self._newest_ms
        if self._newest_ms and PAUSE_MS < pause_ms < self._longest_ms:
            self._paused_ms += pause_ms - PAUSE_MS
        self._newest_ms = max(self._newest_ms, appended_ms)
        return appended_ms - self._paused_ms
