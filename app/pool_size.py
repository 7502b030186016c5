"""How many processes a supervised pool has: from what its workers say of themselves to the size that is decided.

Invariant: it decides nothing itself, `consumer.scaling` does, on heartbeats that came over the lines to the workers: no
Kafka is asked, so a pool is never resized because Kafka is slow to answer. Every decision is logged with its reason,
and told to the workers, whose heartbeats show it to every monitor.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

import msgspec

from fairlane.consumer.scaling import Decision, Scaling, ScalingPolicy, Vitals
from fairlane.topics.clock import now_ms
from fairlane.topics.events import Heartbeat, Pool, decode_heartbeat

_logger = logging.getLogger("fairlane.supervisor")

FRESH_S: Final = 4.0
"""A worker that has said nothing for so long is not known to work."""
LOOK_S: Final = 1.0


class PoolSize:
    """The size of one pool.

    Args:
        name: of the pool.
        policy: its bounds and patience.
    """

    def __init__(self, name: str, policy: ScalingPolicy) -> None:
        self._scaling = Scaling(policy)
        self._heard: dict[int, tuple[float, Heartbeat]] = {}
        self._looked_s = 0.0
        self._pool = Pool(name, policy.least, policy.least, policy.most)

    @property
    def least(self) -> int:
        """How many processes the pool always has, and begins with."""
        return self._scaling.policy.least

    def heard(self, slot: int, said: bytes, now_s: float) -> Decision | None:
        """A worker said how it is; what follows from that, if anything.

        Args:
            slot: whose.
            said: its heartbeat, as JSON.
            now_s: the time on the monotonic clock.
        """
        beat = decode_heartbeat(said)
        if beat is not None:
            self._heard[slot] = now_s, beat
        if now_s - self._looked_s < LOOK_S:
            return None
        self._looked_s = now_s
        working = [
            _vitals(each)
            for number, (at_s, each) in self._heard.items()
            if number < self._scaling.processes and now_s - at_s < FRESH_S and each.state == "running"
        ]
        decision = self._scaling.look(working, now_s)
        if decision is not None:
            self._note(decision)
        return decision

    def gone(self, slot: int) -> None:
        """The process of a slot has ended."""
        self._heard.pop(slot, None)

    def told(self) -> bytes:
        """What the workers are told of their pool: a line."""
        return msgspec.json.encode(self._pool) + b"\n"

    def _note(self, decision: Decision) -> None:
        before, after, reason = decision
        said = f"{before} to {after} processes: {reason}" if after != before else f"stays at {after}: {reason}"
        _logger.info("%s: %s", self._pool.name, said)
        self._pool = msgspec.structs.replace(self._pool, processes=after, reason=said, at_ms=now_ms())


def _vitals(beat: Heartbeat) -> Vitals:
    held = Counter(partition.rpartition("/")[0] for partition in beat.partitions)
    return Vitals(
        busy=min(1.0, max(beat.utilisation, beat.cpu)),
        waiting=beat.buffered,
        oldest_s=beat.oldest_ms / 1000,
        partitions=max(held.values(), default=0),
    )
